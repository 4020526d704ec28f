//! Makes foreign text safe to show: bounded in bytes, without control characters.

use std::borrow::Cow;
use std::fmt::Write;

/// At most `limit` bytes of `text`, cut between characters; `…` shows that something is missing.
pub fn clip(text: &str, limit: usize) -> Cow<'_, str> {
    const MARK: &str = "…";
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let room = limit.saturating_sub(MARK.len());
    Cow::Owned(format!("{}{MARK}", &text[..text.floor_char_boundary(room)]))
}

/// `text` with every control character written as `\u001b`, which is valid inside a JSON string, too.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_control() {
            write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a String cannot fail");
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// An error with all its causes on one line, each cause once.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !out.contains(&text) {
            write!(out, ": {text}").expect("writing to a String cannot fail");
        }
        cause = error.source();
    }
    printable(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_characters_whole() {
        for (text, limit, want) in [
            ("short", 5, "short"),
            ("longer", 5, "lo…"),
            ("äöü", 6, "äöü"),
            ("äöüä", 6, "ä…"),
            ("äöüä", 7, "äö…"),
            ("", 0, ""),
        ] {
            assert_eq!(clip(text, limit), want, "{text} {limit}");
            assert!(clip(text, limit).len() <= limit);
        }
    }

    #[test]
    fn control_characters_are_spelt_out() {
        assert_eq!(printable("a\u{1b}[31mb\nc\u{7f}\u{85}ä"), "a\\u001b[31mb\\u000ac\\u007f\\u0085ä");
        assert!(matches!(printable("plain ä"), Cow::Borrowed(_)));
    }
}
