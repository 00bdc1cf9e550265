//! A line as words, as a shell splits it: nothing is run, and no variable is replaced.

/// Splits `line`. `None`: a quote is not closed.
#[must_use]
pub fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\\' => match chars.next() {
                // The line continues.
                Some('\n') | None => {}
                Some(c) => word.get_or_insert_default().push(c),
            },
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => word.push(chars.next()?),
                        c => word.push(c),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let of = |line: &str| split(line).map(|w| w.join("|"));
        for (line, expected) in [
            ("a b  c", Some("a|b|c")),
            ("sh -c 'a && b'", Some("sh|-c|a && b")),
            ("a \"b c\"d", Some("a|b cd")),
            (r#"a\ b "c\"d" 'e\f'"#, Some(r#"a b|c"d|e\f"#)),
            ("''", Some("")),
            ("\n a \\\n b", Some("a|b")),
            ("", Some("")),
            ("a 'b", None),
            ("a \"b\\", None),
        ] {
            assert_eq!(of(line).as_deref(), expected, "{line:?}");
        }
        assert_eq!(split("''").unwrap().len(), 1);
        assert!(split("").unwrap().is_empty());
    }
}
