//! Where one document of a file ends and the next one begins.

/// A part of a file: a document, with the comments and directives before it.
pub(super) struct Part<'t> {
    pub(super) text: &'t str,
    /// The number of lines of the file before the part.
    pub(super) first_line: usize,
}

/// Parts a text at the lines that begin with `---`: such a line always begins a document, whatever it stands in (YAML 1.2 §9.1.4, c-forbidden), so a
/// document that is broken takes no other one with it. Directives (`%YAML 1.1`) belong to the document behind them.
pub(super) fn documents(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut begin, mut first_line, mut directives_only) = (0, 0, true);
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker = line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker && !directives_only {
            parts.push(Part { text: &text[begin..offset], first_line });
            (begin, first_line) = (offset, number);
        }
        if !line.starts_with(['%', '#']) && !line.trim().is_empty() {
            directives_only = false;
        }
        offset += line.len();
    }
    if !directives_only {
        parts.push(Part { text: &text[begin..], first_line });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_begins_at_its_marker() {
        let text = "%YAML 1.1\n---\na: 1\n--- # two\nb: |\n  --- text\n---x: 1\n---\tc\n";
        let parts: Vec<(usize, &str)> = documents(text).into_iter().map(|part| (part.first_line, part.text)).collect();
        assert_eq!(parts, [(0, "%YAML 1.1\n---\na: 1\n"), (3, "--- # two\nb: |\n  --- text\n---x: 1\n"), (7, "---\tc\n")]);
        assert!(documents("# nothing\n\n").is_empty());
    }
}
