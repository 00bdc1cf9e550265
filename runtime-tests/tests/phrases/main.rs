//! Texts are plain technical English: the phrases that `STYLE.md` warns of are refused in comments and strings of the
//! code, in docs and in scripts.
//!
//! `allowance.txt` has the files that still have some, and how many. A number may only shrink; `ORUN_UPDATE_PHRASES=1`
//! writes the file again.

mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A phrase: words in a row, each with its alternatives; the words that may not precede or follow it; and what to write.
struct Phrase {
    words: &'static str,
    not_after: &'static str,
    not_before: &'static str,
    instead: &'static str,
}

const fn phrase(words: &'static str, instead: &'static str) -> Phrase {
    Phrase { words, not_after: "", not_before: "", instead }
}

const PHRASES: [Phrase; 22] = [
    phrase("what is|was|are|were wanted|there|wrong|asked|told|said|written|running|going", "name the thing"),
    phrase("what there is|was|are|were", "name the thing"),
    phrase(
        "who|whoever asks|asked|wants|may|can|looks|holds|calls|reads|writes",
        "the caller, the holder ...",
    ),
    phrase("told", "reported, notified, printed"),
    Phrase {
        words: "tell|tells|telling",
        not_after: "",
        not_before: "apart them|two|both",
        instead: "report, print, show, notify",
    },
    phrase("go|goes|going|went|gone on", "continue, follow, resume, keep running"),
    Phrase {
        words: "stand|stands|stood",
        not_after: "",
        not_before: "in for",
        instead: "is, appears, exists",
    },
    Phrase {
        words: "is|are|was|were|be there",
        not_after: "",
        not_before: "a an any no",
        instead: "exists, is present, is installed",
    },
    Phrase {
        words: "is|are|was|were no|none",
        not_after: "there",
        not_before: "longer more less such way need reason",
        instead: "is not a valid X, is missing",
    },
    phrase("ended", "exited, finished, closed"),
    // `multi-user.target.wants` is a directory of systemd.
    Phrase { words: "wants|wanted", not_after: ".", not_before: "", instead: "requires, requested, desired" },
    phrase("without a word", "without reporting an error"),
    phrase("made up", "generated"),
    phrase("has|have|had not a|an|the|any|enough", "does not have"),
    phrase("anew", "again"),
    phrase("in the hands of", "name the program that uses it"),
    phrase("in vain", "without success"),
    phrase("made known to", "registered with"),
    phrase("makes|make known to", "registers with"),
    phrase("what came|comes|becomes|follows of", "result of, output of"),
    phrase("at the end of its time", "when its time expires"),
    phrase("is|are not known any more", "no longer known, no longer registered"),
];

/// A piece of text as words and punctuation: "nobody's (/proc)." is `nobody's`, `(`, `/`, `proc`, `)`, `.`.
fn tokens(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.chars().flat_map(char::to_lowercase) {
        let word = c.is_alphanumeric() || c == '_' || c == '\'' || c == '-';
        match found.last_mut() {
            Some(last) if word && in_word => last.push(c),
            _ if !c.is_whitespace() => found.push(c.to_string()),
            _ => {}
        }
        in_word = word;
    }
    found
}

impl Phrase {
    /// Whether the phrase begins at `at`.
    fn is_at(&self, tokens: &[String], at: usize) -> bool {
        let words: Vec<&str> = self.words.split(' ').collect();
        let matches = |(n, alternatives): (usize, &&str)| {
            tokens.get(at + n).is_some_and(|t| alternatives.split('|').any(|a| a == t))
        };
        let listed = |list: &str, n: Option<usize>| {
            n.and_then(|n| tokens.get(n)).is_some_and(|t| list.split(' ').any(|w| w == t))
        };
        words.iter().enumerate().all(matches)
            // `{told}`, `$wanted` and `wanted=` are variables.
            && !listed("{ $", at.checked_sub(1))
            && !listed("=", Some(at + words.len()))
            && !listed(self.not_after, at.checked_sub(1))
            && !listed(self.not_before, Some(at + words.len()))
    }
}

/// The phrases in a text, as `found: write instead`.
fn phrases(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    // A single word is a name: `"Wants"` of systemd.
    if tokens.len() == 1 {
        return Vec::new();
    }
    let at = |n: usize| PHRASES.iter().filter(|p| p.is_at(&tokens, n)).map(move |p| (n, p)).next();
    (0..tokens.len())
        .filter_map(at)
        .map(|(n, p)| {
            let end = n + p.words.split(' ').count();
            format!("{:?}: {}", tokens[n..end].join(" "), p.instead)
        })
        .collect()
}

/// A comment or string that begins with a relative clause: "What the kernel refuses.".
fn relative_start(text: &str) -> Option<String> {
    let tokens = tokens(text);
    let first = tokens.first().filter(|_| tokens.len() > 1)?;
    ["what", "whoever", "whose"].contains(&first.as_str()).then(|| format!("{first:?}: begin with the noun"))
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// All files with text of ours, relative to the top.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["src", "tests", "runtime-tests", "scripts", "docs", "vendor-specs"] {
        collect(&top().join(folder), &mut found);
    }
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"] {
        found.push(top().join(name));
    }
    // The phrases themselves.
    found.retain(|p| !p.starts_with(top().join("runtime-tests/tests/phrases")));
    assert!(found.len() > 300, "{} files", found.len());
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// Line and phrase of every finding in a file.
fn findings(path: &Path) -> Vec<(usize, String)> {
    // Not text: a recorded image, a captured journal.
    let Ok(content) = fs::read_to_string(path) else { return Vec::new() };
    let code = path.extension().is_some_and(|e| e == "rs");
    let pieces = if code { text::of_rust(&content) } else { text::of_lines(&content) };
    let of_piece = |text: &str| {
        let mut found = phrases(text);
        found.extend(relative_start(text).filter(|_| code));
        found
    };
    pieces.into_iter().flat_map(|(line, text)| of_piece(&text).into_iter().map(move |p| (line, p))).collect()
}

const ALLOWANCE: &str = "runtime-tests/tests/phrases/allowance.txt";

fn allowance() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(top().join(ALLOWANCE)).unwrap_or_default();
    let entry = |line: &str| {
        let (number, file) = line.split_once(' ')?;
        Some((file.to_owned(), number.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}

#[test]
fn texts_have_no_phrases_that_nobody_would_write() {
    let allowed = allowance();
    let (mut problems, mut now) = (String::new(), String::new());
    for path in files() {
        let name = path.strip_prefix(top()).unwrap_or(&path).to_string_lossy().into_owned();
        let found = findings(&path);
        let most = allowed.get(&name).copied().unwrap_or(0);
        if !found.is_empty() {
            now += &format!("{} {name}\n", found.len());
        }
        if found.len() > most {
            problems += &format!("{name}: {} phrases, {most} allowed\n", found.len());
            for (line, phrase) in &found {
                problems += &format!("  {name}:{line}: {phrase}\n");
            }
        }
    }
    if std::env::var_os("ORUN_UPDATE_PHRASES").is_some() {
        fs::write(top().join(ALLOWANCE), now).unwrap();
        return;
    }
    assert!(problems.is_empty(), "\n{problems}see STYLE.md");
}

#[test]
fn the_phrases_are_found() {
    let found = |text: &str| phrases(text).len();
    for text in [
        "Where what is wanted is kept",
        "Go on with what is written",
        "\"a\" is there twice",
        "is no name of a label",
        "it stands beside containers",
        "the process ended without a word",
        "Who asked may have gone.",
    ] {
        assert!(found(text) > 0, "{text}");
    }
    for text in [
        "Directory for the desired state",
        "it is no longer running",
        "there is no such process",
        "a stand-in",
        "extended",
        "RESOLVE_BENEATH stands for it",
    ] {
        assert_eq!(found(text), 0, "{text}");
    }
    assert!(relative_start("What the kernel refuses.").is_some() && relative_start("An error.").is_none());
    let code = "/// it told\nfn told() {} // it stands\nlet a = \"goes on\\n\"; let b = 'x'; let c = r#\"it ended\"#;";
    let found: Vec<usize> = text::of_rust(code)
        .into_iter()
        .filter(|(_, t)| !phrases(t).is_empty())
        .map(|(line, _)| line)
        .collect();
    assert_eq!(found, [1, 2, 3, 3]);
}
