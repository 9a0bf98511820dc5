//! How wide text is on a terminal, in cells. CJK and most emoji take two, combining marks none (`unicode-width`).

use unicode_width::UnicodeWidthStr;

/// The cells that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text, and spaces up to a width.
pub(crate) fn left(text: &str, cells: usize) -> String {
    format!("{text}{}", " ".repeat(cells.saturating_sub(width(text))))
}

/// Spaces up to a width, and the text.
pub(crate) fn right(text: &str, cells: usize) -> String {
    format!("{}{text}", " ".repeat(cells.saturating_sub(width(text))))
}

/// As much of the beginning of a text as fits into so many cells.
pub(crate) fn beginning(text: &str, cells: usize) -> &str {
    // Characters that make one sign, such as an emoji of several, may take less than each by itself.
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let fits = ends.take_while(|end| text.get(..*end).is_some_and(|start| width(start) <= cells));
    text.get(..fits.last().unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_in_columns_of_cells() {
        for text in ["", "abc", "日本語", "🦀🦀", "e\u{301}e\u{301}", "👩\u{200d}💻", "한글", "ｆｕｌｌ"]
        {
            assert_eq!(width(&left(text, 12)), 12, "{text}");
            assert_eq!(width(&right(text, 12)), 12, "{text}");
        }
        assert_eq!((width("日本語"), width("e\u{301}")), (6, 1));
        assert_eq!((beginning("日本語", 5), beginning("abc", 2), beginning("🦀", 1)), ("日本", "ab", ""));
        assert_eq!(beginning("e\u{301}x", 1), "e\u{301}");
    }
}
