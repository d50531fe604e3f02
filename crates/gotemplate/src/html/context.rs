//! Where in HTML a place is.

/// What the place is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// Text between tags.
    #[default]
    Text,
    /// In a tag, before an attribute or the end of the tag.
    Tag,
    AttrName,
    AfterName,
    /// Behind the `=` of an attribute.
    BeforeValue,
    HtmlComment,
    /// In `<textarea>` or `<title>`, where there are no tags.
    Rcdata,
    /// In the value of an attribute that is plain text.
    Attr,
    Url,
    Srcset,
    /// In the `content` of `<meta>`.
    MetaContent,
    /// Behind `url=` there.
    MetaContentUrl,
    Js,
    JsDoubleQuoted,
    JsSingleQuoted,
    /// In a template of JavaScript, between backquotes.
    JsTemplate,
    JsRegexp,
    JsBlockComment,
    JsLineComment,
    JsHtmlOpenComment,
    JsHtmlCloseComment,
    Css,
    CssDoubleQuoted,
    CssSingleQuoted,
    CssDoubleQuotedUrl,
    CssSingleQuotedUrl,
    CssUrl,
    CssBlockComment,
    CssLineComment,
}

impl State {
    pub(crate) fn is_comment(self) -> bool {
        matches!(
            self,
            State::HtmlComment
                | State::JsBlockComment
                | State::JsLineComment
                | State::JsHtmlOpenComment
                | State::JsHtmlCloseComment
                | State::CssBlockComment
                | State::CssLineComment
        )
    }

    pub(crate) fn is_in_tag(self) -> bool {
        matches!(
            self,
            State::Tag | State::AttrName | State::AfterName | State::BeforeValue | State::Attr
        )
    }

    pub(crate) fn is_script_literal(self) -> bool {
        matches!(
            self,
            State::JsDoubleQuoted | State::JsSingleQuoted | State::JsTemplate | State::JsRegexp
        )
    }
}

/// What ends the value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Delim {
    /// The place is in no such value.
    #[default]
    None,
    DoubleQuote,
    SingleQuote,
    SpaceOrTagEnd,
}

impl Delim {
    pub(crate) fn ends(self) -> &'static [char] {
        match self {
            Delim::None => &[],
            Delim::DoubleQuote => &['"'],
            Delim::SingleQuote => &['\''],
            Delim::SpaceOrTagEnd => &[' ', '\t', '\n', '\u{c}', '\r', '>'],
        }
    }
}

/// Where in an address the place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum UrlPart {
    /// At its start.
    #[default]
    Start,
    /// In the scheme, host or path.
    PreQuery,
    QueryOrFragment,
}

/// What a slash would begin in a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Slash {
    #[default]
    Regexp,
    Division,
}

/// What an attribute holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Attr {
    #[default]
    Plain,
    Script,
    /// The `type` of a `<script>`.
    ScriptType,
    Style,
    Url,
    Srcset,
    MetaContent,
}

impl Attr {
    /// The state in which its value begins.
    pub(crate) fn start(self) -> State {
        match self {
            Attr::Plain | Attr::ScriptType => State::Attr,
            Attr::Script => State::Js,
            Attr::Style => State::Css,
            Attr::Url => State::Url,
            Attr::Srcset => State::Srcset,
            Attr::MetaContent => State::MetaContent,
        }
    }
}

/// An element whose content is no HTML, or that is looked at for other reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Element {
    #[default]
    Other,
    Script,
    Style,
    Textarea,
    Title,
    Meta,
}

impl Element {
    pub(crate) fn named(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "script" => Element::Script,
            "style" => Element::Style,
            "textarea" => Element::Textarea,
            "title" => Element::Title,
            "meta" => Element::Meta,
            _ => Element::Other,
        }
    }

    /// Its name, which ends it behind `</`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Element::Script => "script",
            Element::Style => "style",
            Element::Textarea => "textarea",
            Element::Title => "title",
            Element::Other | Element::Meta => "",
        }
    }

    /// What its content is.
    pub(crate) fn content(self) -> State {
        match self {
            Element::Script => State::Js,
            Element::Style => State::Css,
            Element::Textarea | Element::Title => State::Rcdata,
            Element::Other | Element::Meta => State::Text,
        }
    }
}

/// Where in HTML a place is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Context {
    pub(crate) state: State,
    pub(crate) delim: Delim,
    pub(crate) url_part: UrlPart,
    pub(crate) slash: Slash,
    /// Open braces in each `${` of the templates of JavaScript the place is in.
    pub(crate) braces: Vec<u32>,
    pub(crate) attr: Attr,
    pub(crate) element: Element,
}

impl Context {
    /// In a tag of an element.
    pub(crate) fn in_tag(element: Element) -> Self {
        Context { state: State::Tag, element, ..Context::default() }
    }

    /// Where the place is if a value comes next: as an attribute, or as the value of one.
    pub(crate) fn nudged(mut self) -> Self {
        match self.state {
            State::Tag => self.state = State::AttrName,
            State::BeforeValue => {
                self.state = self.attr.start();
                self.delim = Delim::SpaceOrTagEnd;
                self.attr = Attr::Plain;
            }
            State::AfterName => {
                self.state = State::AttrName;
                self.attr = Attr::Plain;
            }
            _ => {}
        }
        self
    }
}

/// As errors of Go tell it.
impl std::fmt::Display for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::Text => "stateText",
            State::Tag => "stateTag",
            State::AttrName => "stateAttrName",
            State::AfterName => "stateAfterName",
            State::BeforeValue => "stateBeforeValue",
            State::HtmlComment => "stateHTMLCmt",
            State::Rcdata => "stateRCDATA",
            State::Attr => "stateAttr",
            State::Url => "stateURL",
            State::Srcset => "stateSrcset",
            State::MetaContent => "stateMetaContent",
            State::MetaContentUrl => "stateMetaContentURL",
            State::Js => "stateJS",
            State::JsDoubleQuoted => "stateJSDqStr",
            State::JsSingleQuoted => "stateJSSqStr",
            State::JsTemplate => "stateJSTmplLit",
            State::JsRegexp => "stateJSRegexp",
            State::JsBlockComment => "stateJSBlockCmt",
            State::JsLineComment => "stateJSLineCmt",
            State::JsHtmlOpenComment => "stateJSHTMLOpenCmt",
            State::JsHtmlCloseComment => "stateJSHTMLCloseCmt",
            State::Css => "stateCSS",
            State::CssDoubleQuoted => "stateCSSDqStr",
            State::CssSingleQuoted => "stateCSSSqStr",
            State::CssDoubleQuotedUrl => "stateCSSDqURL",
            State::CssSingleQuotedUrl => "stateCSSSqURL",
            State::CssUrl => "stateCSSURL",
            State::CssBlockComment => "stateCSSBlockCmt",
            State::CssLineComment => "stateCSSLineCmt",
        };
        let delim = match self.delim {
            Delim::None => "delimNone",
            Delim::DoubleQuote => "delimDoubleQuote",
            Delim::SingleQuote => "delimSingleQuote",
            Delim::SpaceOrTagEnd => "delimSpaceOrTagEnd",
        };
        let part = match self.url_part {
            UrlPart::Start => "urlPartNone",
            UrlPart::PreQuery => "urlPartPreQuery",
            UrlPart::QueryOrFragment => "urlPartQueryOrFrag",
        };
        let slash = match self.slash {
            Slash::Regexp => "jsCtxRegexp",
            Slash::Division => "jsCtxDivOp",
        };
        let attr = match self.attr {
            Attr::Plain => "attrNone",
            Attr::Script => "attrScript",
            Attr::ScriptType => "attrScriptType",
            Attr::Style => "attrStyle",
            Attr::Url => "attrURL",
            Attr::Srcset => "attrSrcset",
            Attr::MetaContent => "attrMetaContent",
        };
        let element = match self.element {
            Element::Other => "elementNone",
            Element::Script => "elementScript",
            Element::Style => "elementStyle",
            Element::Textarea => "elementTextarea",
            Element::Title => "elementTitle",
            Element::Meta => "elementMeta",
        };
        let braces: Vec<String> = self.braces.iter().map(u32::to_string).collect();
        let braces = braces.join(" ");
        write!(f, "{{{state} {delim} {part} {slash} [{braces}] {attr} {element} <nil>}}")
    }
}
