//! The only way to add an HTTP route: each one states who may use it.
//!
//! The check stands before the handler and after routing, so that there is one opinion about which
//! route a path means. A route without a stated access cannot be written with this type; a response
//! that comes from somewhere else, such as a route added to the finished router, does not leave the
//! server ([`crate::Server`] answers 500 instead).

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter};
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::auth::{Door, Scope};
use crate::dialect::{Dialect, in_its_own_words};
use crate::{ApiError, ErrorType};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Everyone, without login. For what holds no data: the console's files, health, login itself.
    Public,
    /// Who may read stored data.
    Read,
    /// Who may store data.
    Write,
    /// Who may see and change how the server works.
    Admin,
}

impl Access {
    /// The scope a caller needs; `None` for [`Access::Public`].
    pub fn scope(self) -> Option<Scope> {
        match self {
            Access::Public => None,
            Access::Read => Some(Scope::Read),
            Access::Write => Some(Scope::Write),
            Access::Admin => Some(Scope::Admin),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.scope().map_or("public", Scope::as_str))
    }
}

/// One line of the table that [`Routes::table`] yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Methods it answers, as stated; `GET` answers `HEAD` as well. Empty means any.
    pub methods: Vec<Method>,
    /// The path with its parameters in braces; `*` for the fallback.
    pub path: String,
    /// Who may use it.
    pub access: Access,
}

/// What a request passes between the check of who sent it and its handler: it goes on, or is answered.
pub trait Detour: Send + Sync + 'static {
    /// The request, for the handler; or the answer to it.
    fn pass(&self, request: Request) -> Pin<Box<dyn Future<Output = Passed> + Send + '_>>;
}

/// Marks a request that another broker passed on: whoever gets it passes it on no further.
#[derive(Debug, Clone, Copy)]
pub struct PassedOn;

/// A detour, and the words in which it refuses.
type Way = (Arc<dyn Detour>, Option<&'static Dialect>);

/// What became of a request on its [`Detour`].
pub type Passed = std::ops::ControlFlow<Response, Request>;

/// Routes with state `S`, and a table of them.
///
/// ```
/// use http::Method;
/// use net::{Access, Routes};
///
/// let routes: Routes = Routes::new()
///     .route("/api/v1/query", [Method::GET, Method::POST], Access::Read, async || "[]")
///     .route("/-/healthy", [Method::GET], Access::Public, async || "well");
/// assert_eq!(routes.table().len(), 2);
/// ```
#[must_use]
pub struct Routes<S = ()> {
    router: Router<S>,
    table: Vec<Route>,
    has_fallback: bool,
    dialect: Option<&'static Dialect>,
    detour: Option<Arc<dyn Detour>>,
    /// Whose words paths are refused in.
    dialects: HashMap<String, &'static Dialect>,
}

impl<S> fmt::Debug for Routes<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Routes").field("table", &self.table).finish_non_exhaustive()
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes.
    pub fn new() -> Self {
        Routes {
            router: Router::new(),
            table: Vec::new(),
            has_fallback: false,
            dialect: None,
            detour: None,
            dialects: HashMap::new(),
        }
    }

    /// Routes that are added from here on are those of a protocol with ways of its own.
    pub fn speaking(mut self, dialect: &'static Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    /// Requests of routes that are added from here on take a detour before their handler, behind the check
    /// of who sent them.
    pub fn by_way_of(mut self, detour: Option<Arc<dyn Detour>>) -> Self {
        self.detour = detour;
        self
    }

    /// Adds a route. The same path may be added again with other methods, also with another access.
    ///
    /// # Panics
    /// When `methods` is empty, when a method is none that axum knows, and when the path is
    /// malformed or taken.
    pub fn route<H, T>(
        mut self,
        path: &str,
        methods: impl IntoIterator<Item = Method>,
        access: Access,
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let methods: Vec<Method> = methods.into_iter().collect();
        let filter = methods
            .iter()
            .map(|method| {
                MethodFilter::try_from(method.clone())
                    .unwrap_or_else(|error| panic!("route {path}: {error}"))
            })
            .reduce(MethodFilter::or)
            .unwrap_or_else(|| panic!("route {path} has no method"));
        let state = (access, self.dialect);
        let answers = match &self.detour {
            None => MethodRouter::new().on(filter, handler.layer(from_fn_with_state(state, guard))),
            Some(detour) => {
                let way = (Arc::clone(detour), self.dialect);
                let handler = handler.layer(from_fn_with_state(way, pass));
                MethodRouter::new().on(filter, handler.layer(from_fn_with_state(state, guard)))
            }
        };
        self.router = self.router.route(path, answers);
        self.table.push(Route { methods, path: path.to_owned(), access });
        self.dialects.extend(self.dialect.map(|dialect| (path.to_owned(), dialect)));
        self
    }

    /// Adds a route that answers every method.
    ///
    /// # Panics
    /// When the path is malformed or taken.
    pub fn route_any<H, T>(mut self, path: &str, access: Access, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let handler = handler.layer(from_fn_with_state((access, self.dialect), guard));
        self.router = self.router.route(path, axum::routing::any(handler));
        self.table.push(Route { methods: Vec::new(), path: path.to_owned(), access });
        self
    }

    /// What answers paths that no route has; without one it is a 404 in JSON.
    pub fn fallback<H, T>(mut self, access: Access, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.router =
            self.router.fallback(handler.layer(from_fn_with_state((access, self.dialect), guard)));
        self.table.push(Route { methods: Vec::new(), path: "*".to_owned(), access });
        self.has_fallback = true;
        self
    }

    /// Adds all routes of `other`.
    ///
    /// # Panics
    /// When both have the same method of the same path, or both have a fallback.
    pub fn merge(mut self, other: Routes<S>) -> Self {
        self.router = self.router.merge(other.router);
        self.table.extend(other.table);
        self.dialects.extend(other.dialects);
        self.has_fallback |= other.has_fallback;
        self
    }

    /// Gives the handlers their state.
    pub fn with_state<S2>(self, state: S) -> Routes<S2> {
        Routes {
            router: self.router.with_state(state),
            table: self.table,
            has_fallback: self.has_fallback,
            dialect: self.dialect,
            detour: self.detour,
            dialects: self.dialects,
        }
    }

    /// Every route, in the order in which they were added.
    pub fn table(&self) -> &[Route] {
        &self.table
    }
}

impl Routes {
    /// The router, to be wrapped in layers and served. A known path with a method it does not have
    /// is answered 405, in the words of its protocol. Routes added to the result are not served.
    pub fn into_router(self) -> Router {
        let public = || from_fn_with_state((Access::Public, None), guard);
        let dialects = Arc::new(self.dialects);
        let refuse = async move |path: Option<MatchedPath>, headers: HeaderMap, method, uri| {
            let dialect = path.and_then(|path| dialects.get(path.as_str()).copied());
            let refusal = method_not_allowed(&method, &uri).into_response();
            in_its_own_words(&headers, dialect, refusal)
        };
        let router = self.router.method_not_allowed_fallback(refuse.layer(public()));
        if self.has_fallback { router } else { router.fallback(not_found.layer(public())) }
    }
}

/// Marks a response about which an access was stated; the server lets no other pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessStated;

/// Marks an answer that is given without any route, such as while the server starts, as one that
/// everyone may see.
pub fn public_answer(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.extensions_mut().insert(AccessStated);
    response
}

/// What the server sends: the response, or a 500 when nobody stated who may see it.
pub(crate) fn only_stated(mut response: Response, method: &Method, uri: &Uri) -> Response {
    if response.extensions_mut().remove::<AccessStated>().is_some() {
        return response;
    }
    tracing::error!(%method, path = uri.path(), "a route states no access; its answer is not sent");
    ApiError::new(
        ErrorType::Internal,
        "this route states no access, so nobody may use it; please report it as a bug",
    )
    .into_response()
}

/// Stands before every handler.
async fn guard(
    State((access, dialect)): State<(Access, Option<&'static Dialect>)>,
    request: Request,
    next: Next,
) -> Response {
    let Some(scope) = access.scope() else { return public_answer(next.run(request).await) };
    let (mut parts, body) = request.into_parts();
    let Some(door) = parts.extensions.remove::<Door>() else {
        tracing::error!(path = parts.uri.path(), "no login was set up before this route");
        return public_answer(ApiError::new(
            ErrorType::Internal,
            "nothing tells here who is calling, so nobody may; please report it as a bug",
        ));
    };
    let refuse = |response| public_answer(in_its_own_words(&parts.headers, dialect, response));
    let (principal, standing) = match door.identify(&parts, dialect).await {
        Ok(known) => known,
        Err(refusal) => return refuse(refusal.into_response(&parts.headers)),
    };
    if !principal.scopes.contains(scope) {
        return refuse(principal.forbidden(scope).into_response());
    }
    let principal = match principal.narrowed_by(&parts.headers) {
        Ok(principal) => principal,
        Err(refusal) => return refuse(refusal.into_response()),
    };
    parts.extensions.insert(principal);
    parts.extensions.insert(standing);
    public_answer(next.run(Request::from_parts(parts, body)).await)
}

async fn pass(State((detour, dialect)): State<Way>, request: Request, next: Next) -> Response {
    let headers = dialect.map(|_| request.headers().clone()).unwrap_or_default();
    match detour.pass(request).await {
        Passed::Continue(request) => next.run(request).await,
        Passed::Break(answer) => in_its_own_words(&headers, dialect, answer),
    }
}

fn method_not_allowed(method: &Method, uri: &Uri) -> ApiError {
    let message = format!("{method} is not allowed at {}; see the header Allow", uri.path());
    ApiError::new(ErrorType::BadData, message).with_status(StatusCode::METHOD_NOT_ALLOWED)
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(ErrorType::NotFound, format!("there is nothing at {:?}", uri.path()))
}
