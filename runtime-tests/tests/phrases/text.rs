//! The text in a file: comments and strings of Rust code, or everything. Adjacent lines of a comment are one piece, so
//! that a phrase across a line break is found.

/// Comments and string literals with the line that they begin on.
pub fn of_rust(code: &str) -> Vec<(usize, String)> {
    let mut pieces: Vec<(usize, String)> = Vec::new();
    // The line that the comment before ended on, while another may continue it.
    let mut comment_end = 0;
    let mut rest = code;
    let mut line = 1;
    while let Some(c) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            let text = rest[..end].trim_start_matches(['/', '!']);
            let before = code[..code.len() - rest.len()].rsplit('\n').next().unwrap_or_default();
            match pieces.last_mut() {
                Some((_, piece)) if comment_end + 1 == line && before.trim().is_empty() => {
                    piece.push(' ');
                    piece.push_str(text);
                }
                _ => pieces.push((line, text.to_owned())),
            }
            comment_end = line;
            end
        } else if let Some((open, close)) = string(rest) {
            let end = open + end_of(&rest[open..], &close);
            pieces.push((line, rest[open..end].replace("\\n", " ").replace("\\\n", " ")));
            (end + close.len()).min(rest.len())
        } else if c == '\'' {
            character(rest)
        } else {
            c.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    pieces
}

/// Length of the opening and text of the closing of a string literal at the beginning of `rest`.
fn string(rest: &str) -> Option<(usize, String)> {
    if rest.starts_with('"') {
        return Some((1, "\"".to_owned()));
    }
    let hashes = rest.strip_prefix('r')?.bytes().take_while(|b| *b == b'#').count();
    let open = hashes + 2;
    (rest.as_bytes().get(open - 1) == Some(&b'"')).then(|| (open, format!("\"{}", "#".repeat(hashes))))
}

fn end_of(text: &str, close: &str) -> usize {
    if close != "\"" {
        return text.find(close).unwrap_or(text.len());
    }
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Length of a character literal, or of the quote of a lifetime.
fn character(rest: &str) -> usize {
    let body = &rest[1..];
    if let Some(escaped) = body.strip_prefix('\\') {
        let skip = escaped.chars().next().map_or(0, char::len_utf8);
        return escaped[skip..].find('\'').map_or(1, |end| 2 + skip + end + 1);
    }
    let first = body.chars().next().map_or(0, char::len_utf8);
    if body[first..].starts_with('\'') { first + 2 } else { 1 }
}

/// Paragraphs: lines up to an empty one.
pub fn of_lines(text: &str) -> Vec<(usize, String)> {
    let mut pieces: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (n, line) in text.lines().enumerate() {
        let line_text = line.trim_start_matches([' ', '\t', '#']);
        // Rows of tables and of JSON lines are pieces of their own.
        let row = line.starts_with(['|', '{']);
        match pieces.last_mut() {
            Some((_, piece)) if continues && !row => {
                piece.push(' ');
                piece.push_str(line_text);
            }
            _ => pieces.push((n + 1, line_text.to_owned())),
        }
        continues = !line.trim().is_empty() && !row;
    }
    pieces
}
