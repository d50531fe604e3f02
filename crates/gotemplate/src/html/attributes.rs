//! What attributes hold.

/// What an attribute holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Plain,
    Css,
    Html,
    Js,
    Url,
    Srcset,
    /// It says how other things are read or sent.
    Unsafe,
}

const PLAIN: &[&str] = &[
    "accept",
    "alt",
    "autocomplete",
    "autofocus",
    "autoplay",
    "border",
    "checked",
    "class",
    "cols",
    "colspan",
    "contenteditable",
    "contextmenu",
    "controls",
    "coords",
    "datetime",
    "default",
    "dir",
    "dirname",
    "disabled",
    "draggable",
    "dropzone",
    "for",
    "formtarget",
    "headers",
    "height",
    "hidden",
    "high",
    "hreflang",
    "id",
    "ismap",
    "kind",
    "label",
    "lang",
    "list",
    "loop",
    "low",
    "max",
    "maxlength",
    "media",
    "mediagroup",
    "min",
    "multiple",
    "name",
    "open",
    "optimum",
    "placeholder",
    "preload",
    "pubdate",
    "radiogroup",
    "readonly",
    "required",
    "reversed",
    "rows",
    "rowspan",
    "spellcheck",
    "scope",
    "scoped",
    "seamless",
    "selected",
    "shape",
    "size",
    "sizes",
    "span",
    "srclang",
    "start",
    "step",
    "tabindex",
    "target",
    "title",
    "width",
    "wrap",
];

const URLS: &[&str] = &[
    "action",
    "archive",
    "background",
    "cite",
    "classid",
    "codebase",
    "data",
    "formaction",
    "href",
    "icon",
    "longdesc",
    "manifest",
    "poster",
    "profile",
    "src",
    "usemap",
    "xmlns",
];

const UNSAFE: &[&str] = &[
    "accept-charset",
    "async",
    "challenge",
    "charset",
    "content",
    "crossorigin",
    "defer",
    "enctype",
    "form",
    "formenctype",
    "formmethod",
    "formnovalidate",
    "http-equiv",
    "keytype",
    "language",
    "method",
    "novalidate",
    "pattern",
    "rel",
    "sandbox",
    "type",
    "value",
];

/// What the attribute of a name in lower case holds, rather too much than too little.
pub(super) fn content_of(name: &str) -> Content {
    let name = match (name.strip_prefix("data-"), name.split_once(':')) {
        (Some(name), _) => name,
        (None, Some(("xmlns", _))) => return Content::Url,
        (None, Some((_, name))) => name,
        (None, None) => name,
    };
    match name {
        "style" => return Content::Css,
        "srcdoc" => return Content::Html,
        "srcset" => return Content::Srcset,
        name if PLAIN.contains(&name) => return Content::Plain,
        name if URLS.contains(&name) => return Content::Url,
        name if UNSAFE.contains(&name) => return Content::Unsafe,
        _ => {}
    }
    // Handlers of events, also those that are not known.
    if name.starts_with("on") {
        return Content::Js;
    }
    // Attributes of one's own that hold addresses mostly say so.
    if ["src", "uri", "url"].iter().any(|part| name.contains(part)) {
        return Content::Url;
    }
    Content::Plain
}
