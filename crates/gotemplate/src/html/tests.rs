//! Values at all kinds of places. What is expected was printed by Go 1.26's `html/template`.

use proptest::prelude::*;

use super::*;
use crate::value::{Safety, Value};

/// Text of a template, in which `@` stands for a value.
fn run(text: &str, value: &Value<'_>) -> Result<String, String> {
    let mut escaper = Escaper::new();
    let mut out = String::new();
    for (index, part) in text.split('@').enumerate() {
        if index > 0 {
            let steps = escaper.begin_value()?;
            out.push_str(&steps.escape(std::slice::from_ref(value), 100_000)?);
        }
        escaper.text(part, &mut out)?;
    }
    escaper.finish()?;
    Ok(out)
}

#[test]
fn values_in_text_attributes_and_addresses() {
    let value = Value::text("<b> 'x' & \"y\" +1 =`");
    for (text, want) in CASES {
        assert_eq!(run(text, &value).as_deref(), Ok(*want), "{text}");
    }
}

const CASES: &[(&str, &str)] = &[
    ("@", "&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`"),
    ("<b>@</b>", "<b>&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`</b>"),
    ("<a title=\"@\">", "<a title=\"&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`\">"),
    ("<a title='@'>", "<a title='&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`'>"),
    (
        "<a title=@>",
        "<a title=&lt;b&gt;&#32;&#39;x&#39;&#32;&amp;&#32;&#34;y&#34;&#32;&#43;1&#32;&#61;&#96;>",
    ),
    ("<a href=\"@\">", "<a href=\"%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">"),
    ("<a href=\"/p/@\">", "<a href=\"/p/%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">"),
    ("<a href=\"?q=@\">", "<a href=\"?q=%3cb%3e%20%27x%27%20%26%20%22y%22%20%2b1%20%3d%60\">"),
    ("<a href=\"#@\">", "<a href=\"#%3cb%3e%20%27x%27%20%26%20%22y%22%20%2b1%20%3d%60\">"),
    ("<a href=@>", "<a href=%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20&#61;%60>"),
    (
        "<a href='@?a=@'>",
        "<a href='%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60?a=%3cb%3e%20%27x%27%20%26%20%22y%22%20%2b1%20%3d%60'>",
    ),
    ("<img src=\"@\">", "<img src=\"%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">"),
    ("<img srcset=\"@\">", "<img srcset=\"#ZgotmplZ\">"),
    ("<img srcset=\"@ 2x, /b\">", "<img srcset=\"#ZgotmplZ 2x, /b\">"),
    (
        "<a onclick=\"f(@)\">",
        "<a onclick=\"f(&#34;\\u003cb\\u003e &#39;x&#39; \\u0026 \\&#34;y\\&#34; &#43;1 =`&#34;)\">",
    ),
    (
        "<a onclick=\"f('@')\">",
        "<a onclick=\"f('\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =\\u0060')\">",
    ),
    (
        "<a onclick='f(\"@\")'>",
        "<a onclick='f(\"\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =\\u0060\")'>",
    ),
    (
        "<a onclick=\"f(/@/)\">",
        "<a onclick=\"f(/\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =`/)\">",
    ),
    (
        "<script>var x=@;</script>",
        "<script>var x=\"\\u003cb\\u003e 'x' \\u0026 \\\"y\\\" +1 =`\";</script>",
    ),
    (
        "<script>var x=\"@\";</script>",
        "<script>var x=\"\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =\\u0060\";</script>",
    ),
    (
        "<script>var x='@';</script>",
        "<script>var x='\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =\\u0060';</script>",
    ),
    (
        "<script>var x=`@`;</script>",
        "<script>var x=`\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =\\u0060`;</script>",
    ),
    (
        "<script>var x=`${ @ }`;</script>",
        "<script>var x=`${ \"\\u003cb\\u003e 'x' \\u0026 \\\"y\\\" +1 =`\" }`;</script>",
    ),
    (
        "<script>/@/.test(y)</script>",
        "<script>/\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =`/.test(y)</script>",
    ),
    (
        "<script>x = y / @ / 2</script>",
        "<script>x = y / \"\\u003cb\\u003e 'x' \\u0026 \\\"y\\\" +1 =`\" / 2</script>",
    ),
    ("<script>// @\nz</script>", "<script>\nz</script>"),
    ("<script>/* @ */z</script>", "<script>  z</script>"),
    (
        "<script type=\"text/plain\">@</script>",
        "<script type=\"text/plain\">&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`</script>",
    ),
    (
        "<script type=\"application/json\">@</script>",
        "<script type=\"application/json\">\"\\u003cb\\u003e 'x' \\u0026 \\\"y\\\" +1 =`\"</script>",
    ),
    ("<style>a{color:@}</style>", "<style>a{color:ZgotmplZ}</style>"),
    (
        "<style>a{background:url(@)}</style>",
        "<style>a{background:url(%3cb%3e%20%27x%27%20&%20%22y%22%20+1%20=%60)}</style>",
    ),
    (
        "<style>a{background:url(\"@\")}</style>",
        "<style>a{background:url(\"%3cb%3e%20%27x%27%20&%20%22y%22%20+1%20=%60\")}</style>",
    ),
    (
        "<style>a{background:url('/x?@')}</style>",
        "<style>a{background:url('/x?%3cb%3e%20%27x%27%20%26%20%22y%22%20%2b1%20%3d%60')}</style>",
    ),
    (
        "<style>a{font-family:\"@\"}</style>",
        "<style>a{font-family:\"\\3c b\\3e  \\27x\\27  \\26  \\22y\\22  \\2b 1 =`\"}</style>",
    ),
    ("<p style=\"color: @\">", "<p style=\"color: ZgotmplZ\">"),
    (
        "<p style=\"background: url(@)\">",
        "<p style=\"background: url(%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60)\">",
    ),
    (
        "<p style=\"font-family: '@'\">",
        "<p style=\"font-family: '\\3c b\\3e  \\27x\\27  \\26  \\22y\\22  \\2b 1 =`'\">",
    ),
    ("<style>/* @ */a</style>", "<style>  a</style>"),
    (
        "<textarea>@</textarea>",
        "<textarea>&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`</textarea>",
    ),
    ("<title>@</title>", "<title>&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`</title>"),
    ("<!-- @ -->y", "y"),
    ("<@>", "&lt;&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`>"),
    ("<a @>", "<a ZgotmplZ>"),
    ("<a @=\"1\">", "<a ZgotmplZ=\"1\">"),
    ("<a @=1>", "<a ZgotmplZ=1>"),
    ("<a b @>", "<a b ZgotmplZ>"),
    (
        "<meta http-equiv=\"refresh\" content=\"0;url=@\">",
        "<meta http-equiv=\"refresh\" content=\"0;url=&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`\">",
    ),
    (
        "<meta content=\"@\">",
        "<meta content=\"&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`\">",
    ),
    ("<a data-url=\"@\">", "<a data-url=\"%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">"),
    ("<a data-x=\"@\">", "<a data-x=\"&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`\">"),
    (
        "<a xlink:href=\"@\">",
        "<a xlink:href=\"%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">",
    ),
    ("<a xmlns:x=\"@\">", "<a xmlns:x=\"%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">"),
    (
        "<iframe srcdoc=\"@\">",
        "<iframe srcdoc=\"&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`\">",
    ),
    ("<a type=\"@\">", "<a type=\"&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`\">"),
    (
        "<a onfoo=\"@\">",
        "<a onfoo=\"&#34;\\u003cb\\u003e &#39;x&#39; \\u0026 \\&#34;y\\&#34; &#43;1 =`&#34;\">",
    ),
    (
        "<a x:onclick=\"@\">",
        "<a x:onclick=\"&#34;\\u003cb\\u003e &#39;x&#39; \\u0026 \\&#34;y\\&#34; &#43;1 =`&#34;\">",
    ),
    ("a < b @", "a &lt; b &lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`"),
    ("<!DOCTYPE html>@", "<!DOCTYPE html>&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`"),
    ("<3 @", "&lt;3 &lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`"),
    ("</b @>", "</b ZgotmplZ>"),
    (
        "<a title=\"@\" href=\"@\">@</a>",
        "<a title=\"&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`\" href=\"%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`</a>",
    ),
    (
        "<a href=\"@@\">",
        "<a href=\"%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">",
    ),
    (
        "<script>var a = @, b = \"@\"</script>@",
        "<script>var a = \"\\u003cb\\u003e 'x' \\u0026 \\\"y\\\" +1 =`\", b = \"\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =\\u0060\"</script>&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`",
    ),
    (
        "<script>if (a) /@/.exec(b)</script>",
        "<script>if (a) /\"\\u003cb\\u003e 'x' \\u0026 \\\"y\\\" +1 =`\"/.exec(b)</script>",
    ),
    (
        "<script>return /@/</script>",
        "<script>return /\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =`/</script>",
    ),
    (
        "<script>a++ /@/ 2</script>",
        "<script>a++ /\"\\u003cb\\u003e 'x' \\u0026 \\\"y\\\" +1 =`\"/ 2</script>",
    ),
    (
        "<script>\"<script>@</scr\"</script>",
        "<script>\"\\x3Cscript>\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =\\u0060</scr\"</script>",
    ),
    ("<script><!-- @\nb</script>", "<script>\nb</script>"),
    ("<script>a --> @\nb</script>", "<script>a \nb</script>"),
    ("<script>#! @\nb</script>", "<script>\nb</script>"),
    (
        "<a href=\"javascript:@\">",
        "<a href=\"javascript:%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">",
    ),
    (
        "<a href=\"http://x/@\">",
        "<a href=\"http://x/%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">",
    ),
    ("<a style=color:@>", "<a style=color:ZgotmplZ>"),
    ("<a href='@' >", "<a href='%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60' >"),
    (
        "<input value=@>",
        "<input value=&lt;b&gt;&#32;&#39;x&#39;&#32;&amp;&#32;&#34;y&#34;&#32;&#43;1&#32;&#61;&#96;>",
    ),
    (
        "<a onclick=\"alert(&quot;@&quot;)\">",
        "<a onclick=\"alert(&quot;\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =\\u0060&quot;)\">",
    ),
    (
        "<a onclick=\"alert(&#34;@&#34;)\">",
        "<a onclick=\"alert(&#34;\\u003cb\\u003e \\u0027x\\u0027 \\u0026 \\u0022y\\u0022 \\u002b1 =\\u0060&#34;)\">",
    ),
    (
        "<svg><a href=\"@\"/></svg>",
        "<svg><a href=\"%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\"/></svg>",
    ),
    ("<a  href = \"@\">", "<a  href = \"%3cb%3e%20%27x%27%20&amp;%20%22y%22%20&#43;1%20=%60\">"),
    ("<STYLE>b{c:@}</STYLE>", "<STYLE>b{c:ZgotmplZ}</STYLE>"),
    ("<SCRIPT>@</SCRIPT>", "<SCRIPT>\"\\u003cb\\u003e 'x' \\u0026 \\\"y\\\" +1 =`\"</SCRIPT>"),
    ("<a title='\"@'>", "<a title='\"&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`'>"),
    ("<a/@>", "<a/ZgotmplZ>"),
    ("<br/>@", "<br/>&lt;b&gt; &#39;x&#39; &amp; &#34;y&#34; &#43;1 =`"),
];

proptest! {
    #[test]
    fn nothing_makes_an_escaper_panic(
        text in r#"([ a-z=<>/'"@`{}()\[\]$#?:;-]|<script|</script>|<style>|</style>|<!--|-->|//|/\*|\*/|url\(|onclick=|style=|href=|srcset=|&quot;|\\\\|\PC){0,24}"#,
        value in "\\PC{0,8}",
    ) {
        let _ = run(&text, &Value::text(value.clone()));
        let _ = run(&text, &Value::safe(Safety::Html, value.clone()));
        let _ = run(&text, &Value::safe(Safety::Url, value));
    }
}
