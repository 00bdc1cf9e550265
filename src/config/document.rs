//! YAML and JSON as trees whose every node has its position, for files that people write: all of their errors
//! can then be reported together, each with its line.

pub mod diagnostic;
pub mod reader;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use diagnostic::{Diagnostic, Position};

/// Maximum size of a file in bytes.
pub const LONGEST: usize = 1 << 20;
/// How deep lists and mappings may nest.
const DEEPEST: usize = 64;
/// How many nodes a file may have once its aliases are expanded.
const MOST_NODES: usize = 100_000;
/// How much text all passes over a file may read together, bytes.
const MOST_READ: usize = 8 * LONGEST;
/// By how many spaces a line with too little indentation is moved: more than its parents have in any real file.
const SHIFT: usize = 256;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Position,
    pub data: Data,
}

/// A value by the core schema of YAML 1.2, of which JSON is a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    String(String),
    List(Vec<Node>),
    /// In the order of the file; keys are strings and differ from each other.
    Map(Vec<(Node, Node)>),
}

impl Data {
    /// Its name in messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Data::Null => "nothing",
            Data::Bool(_) => "a boolean",
            Data::Number(_) => "a number",
            Data::String(_) => "a string",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match self {
            Data::Bool(true) => Some("true"),
            Data::Bool(false) => Some("false"),
            Data::Number(text) | Data::String(text) => Some(text),
            Data::Null | Data::List(_) | Data::Map(_) => None,
        }
    }
}

/// Reads all documents of `text`; empty ones are left out. Problems are added to `problems`, and the documents
/// before a syntax error are still returned.
pub fn parse(text: &str, problems: &mut Vec<Diagnostic>) -> Vec<Node> {
    read(text, None, problems)
}

/// Nodes with a tag of their own, by line and column.
pub type Tags = BTreeMap<(u32, u32), String>;

/// As [`parse`]; the tags of `known`, as `!reset`, are returned with the place of their node.
pub fn parse_tagged(
    text: &str,
    known: &'static [&'static str],
    problems: &mut Vec<Diagnostic>,
) -> (Vec<Node>, Tags) {
    let mut tags = Tags::new();
    let nodes = read(text, Some((known, &mut tags)), problems);
    (nodes, tags)
}

type Tagging<'t> = Option<(&'static [&'static str], &'t mut Tags)>;

fn read(text: &str, mut tags: Tagging<'_>, problems: &mut Vec<Diagnostic>) -> Vec<Node> {
    if text.len() > LONGEST {
        problems.push(Diagnostic::new(
            Position::START,
            "",
            format!("the file is larger than {LONGEST} bytes"),
        ));
        return Vec::new();
    }
    // A byte order mark does not belong to the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut moved = BTreeSet::new();
    let mut rest = MOST_READ.saturating_sub(text.len());
    loop {
        let before = problems.len();
        let shifted = shift(text, &moved);
        let tagging = tags.as_mut().map(|(known, tags)| (*known, &mut **tags));
        let (documents, shallow) = attempt(text, &shifted, &moved, tagging, problems);
        // Each such line is one more pass: a hostile file must not have many of a long text.
        match shallow {
            Some(line) if rest >= text.len() && moved.insert(line) => {
                rest -= text.len();
                problems.truncate(before);
            }
            _ => return documents,
        }
    }
}

/// `text` with the lines `moved` further to the right.
fn shift<'t>(text: &'t str, moved: &BTreeSet<usize>) -> Cow<'t, str> {
    if moved.is_empty() {
        return text.into();
    }
    let by = " ".repeat(SHIFT);
    let line = |(line, n)| [if moved.contains(&n) { by.as_str() } else { "" }, line];
    text.split_inclusive('\n').zip(1..).flat_map(line).collect::<String>().into()
}

/// Reads `shifted`, which is `text` with the lines `moved` further to the right.
///
/// Also returns the line at which a list or mapping in brackets is indented less than its parent. YAML forbids that; libyaml and
/// go-yaml, which Kubernetes uses, accept it, and many people write the closing bracket like that.
fn attempt(
    text: &str,
    shifted: &str,
    moved: &BTreeSet<usize>,
    tags: Tagging<'_>,
    problems: &mut Vec<Diagnostic>,
) -> (Vec<Node>, Option<usize>) {
    let events = Parser::new_from_str(shifted);
    let mut builder =
        Builder { text, events, moved, shallow: None, anchors: BTreeMap::new(), nodes: 0, tags, problems };
    let mut documents = Vec::new();
    loop {
        match builder.next() {
            Ok((Event::DocumentStart(_), _)) => {}
            Ok((Event::StreamStart | Event::DocumentEnd | Event::Nothing, _)) => continue,
            Ok((Event::StreamEnd, _)) => break,
            Ok(_) => continue,
            Err(Stop) => break,
        }
        builder.anchors.clear();
        match builder.next().and_then(|(event, place)| builder.node(event, place, 0)) {
            Ok(Node { data: Data::Null, .. }) => {}
            Ok(node) => documents.push(node),
            Err(Stop) => break,
        }
    }
    (documents, builder.shallow)
}

/// The file cannot be read on; the reason is among the problems.
struct Stop;

struct Builder<'a, 'p> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    /// The lines that are further right than in `text`.
    moved: &'a BTreeSet<usize>,
    /// The line of a syntax error that more indentation removes.
    shallow: Option<usize>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    tags: Tagging<'p>,
    problems: &'p mut Vec<Diagnostic>,
}

impl<'a> Builder<'a, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Position), Stop> {
        match self.events.next_event() {
            Some(Ok((event, span))) => {
                let length = if span.start.line() == span.end.line() { span.len() } else { 1 };
                Ok((event, Position::new(span.start.line(), self.column(&span.start), length)))
            }
            Some(Err(e)) => Err(self.syntax(&e)),
            None => Err(Stop),
        }
    }

    /// The column in `text`, from 1.
    fn column(&self, at: &Marker) -> usize {
        let by = if self.moved.contains(&at.line()) { SHIFT } else { 0 };
        (at.col() + 1).saturating_sub(by).max(1)
    }

    fn syntax(&mut self, e: &ScanError) -> Stop {
        let place = Position::new(e.marker().line(), self.column(e.marker()), 1);
        if matches!(e.info(), "invalid indentation" | "invalid indentation in flow construct") {
            self.shallow = Some(e.marker().line());
        }
        let mut problem = Diagnostic::new(place, "", format!("not valid YAML: {}", e.info()));
        if e.info().contains("tab") {
            // The parser reports where the value before the tab ends.
            let mut lines = self.text.lines().zip(1..).skip(e.marker().line() - 1);
            if let Some((_, line)) = lines.find(|(text, _)| text.starts_with('\t')) {
                problem.place = Position::new(line, 1, 1);
            }
            problem = problem.hint("YAML is indented with spaces");
        }
        self.problems.push(problem);
        Stop
    }

    fn stop(&mut self, place: Position, message: impl Into<String>) -> Stop {
        self.problems.push(Diagnostic::new(place, "", message));
        Stop
    }

    fn node(&mut self, event: Event<'a>, place: Position, depth: usize) -> Result<Node, Stop> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(self.stop(place, format!("the file has more than {MOST_NODES} values")));
        }
        if depth > DEEPEST {
            return Err(self.stop(place, format!("nested deeper than {DEEPEST} levels")));
        }
        let (anchor, data) = match event {
            Event::Scalar(text, style, anchor, tag) => (anchor, self.scalar(text, style, tag, place)),
            Event::SequenceStart(anchor, tag) => {
                self.no_tag(tag, place);
                (anchor, self.list(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.no_tag(tag, place);
                (anchor, self.map(depth)?)
            }
            Event::Alias(anchor) => return self.alias(anchor, place),
            _ => return Err(self.stop(place, "not valid YAML: a value is missing")),
        };
        let node = Node { place, data };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, place: Position) -> Result<Node, Stop> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(self.stop(place, "recursive alias"));
        };
        // The position stays that of the definition, where problems are fixed.
        self.nodes += count(&node);
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Data, Stop> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Data::List(list)),
                (event, place) => list.push(self.node(event, place, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Data, Stop> {
        let (mut entries, mut merged) = (Vec::<(Node, Node)>::new(), Vec::new());
        loop {
            let (event, place) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let mut key = self.node(event, place, depth + 1)?;
            let (event, place) = self.next()?;
            let value = self.node(event, place, depth + 1)?;
            match key.data.text() {
                Some("<<") => merged.push(value),
                Some(text) => {
                    if let Some((first, _)) = entries.iter().find(|(k, _)| k.data.text() == Some(text)) {
                        let message =
                            format!("duplicate key {text:?}, first defined on line {}", first.place.line);
                        self.problems.push(Diagnostic::new(key.place, "", message));
                    } else {
                        key.data = Data::String(text.to_owned());
                        entries.push((key, value));
                    }
                }
                None => {
                    let message = format!("a key must be a string, not {}", key.data.noun());
                    self.problems.push(Diagnostic::new(key.place, "", message));
                }
            }
        }
        for node in merged {
            self.merge(&mut entries, node);
        }
        Ok(Data::Map(entries))
    }

    /// Merges the mapping of `<<` (YAML 1.1's merge key, as all writers of manifests know it): adds missing fields.
    fn merge(&mut self, entries: &mut Vec<(Node, Node)>, from: Node) {
        match from.data {
            Data::Map(more) => {
                for (key, value) in more {
                    if entries.iter().all(|(k, _)| k.data != key.data) {
                        entries.push((key, value));
                    }
                }
            }
            Data::List(list) => list.into_iter().for_each(|node| self.merge(entries, node)),
            other => {
                let message = format!("<< takes a mapping or a list of them, not {}", other.noun());
                self.problems.push(Diagnostic::new(from.place, "", message));
            }
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<Cow<'_, Tag>>,
        place: Position,
    ) -> Data {
        match tag {
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Data::String(text.into_owned()),
            tag => {
                self.no_tag(tag, place);
                if style == ScalarStyle::Plain { plain(text) } else { Data::String(text.into_owned()) }
            }
        }
    }

    fn no_tag(&mut self, tag: Option<Cow<'_, Tag>>, place: Position) {
        if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema()) {
            let name = format!("{}{}", tag.handle, tag.suffix);
            if let Some((known, tags)) = self.tags.as_mut()
                && known.contains(&name.as_str())
            {
                tags.insert((place.line, place.column), name);
                return;
            }
            let message = format!("the tag {name} is not supported");
            self.problems.push(Diagnostic::new(place, "", message));
        }
    }
}

/// A scalar without quotes, by the core schema (YAML 1.2, 10.3.2).
fn plain(text: Cow<'_, str>) -> Data {
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        "true" | "True" | "TRUE" => Data::Bool(true),
        "false" | "False" | "FALSE" => Data::Bool(false),
        other => {
            let digits = other.trim_start_matches(['-', '+']);
            let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
                && (other.parse::<f64>().is_ok() || digits.starts_with("0x") || digits.starts_with("0o"));
            if number { Data::Number(text.into_owned()) } else { Data::String(text.into_owned()) }
        }
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.data {
        Data::List(list) => list.iter().map(count).sum(),
        Data::Map(entries) => entries.iter().map(|(_, value)| 1 + count(value)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> Vec<Node> {
        let mut problems = Vec::new();
        let documents = parse(text, &mut problems);
        assert_eq!(problems, [], "{text}");
        documents
    }

    fn one(text: &str) -> Data {
        let mut documents = good(text);
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0).data
    }

    fn bad(text: &str) -> (u32, u32, String) {
        let mut problems = Vec::new();
        parse(text, &mut problems);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        let p = problems.remove(0);
        (p.place.line, p.place.column, p.message)
    }

    fn value(text: &str) -> Data {
        match one(&format!("k: {text}\n")) {
            Data::Map(mut entries) => entries.remove(0).1.data,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_in_brackets_may_be_indented_as_little_as_people_do() {
        let list = |text: &str| {
            let Data::Map(entries) = one(text) else { panic!("{text}") };
            let Data::Map(inner) = &entries[0].1.data else { panic!("{text}") };
            inner[0].1.clone()
        };
        for text in [
            "a:\n  b: [\n    \"x\", y\n  ]\n",
            "a:\n  b: [\n    x, \"y\"\n  ]\n  # end\n  c: 1\n",
            "a:\n  b: [\n  \"x\",\n  y\n  ]\nz: 1\n",
            "a:\n  b: [\n\"x\",\n y\n]\nz: {\n}\n",
            "a:\n  b: [\"x\",\n y]\n---\nz: 1\n",
        ] {
            let mut problems = Vec::new();
            let documents = parse(text, &mut problems);
            assert_eq!(problems, [], "{text}");
            let first = if documents.len() > 1 { text.split("---").next().unwrap() } else { text };
            let Data::List(list) = list(first).data else { panic!("{text}") };
            let texts: Vec<_> = list.iter().map(|n| n.data.text().unwrap()).collect();
            assert_eq!(texts, ["x", "y"], "{text}");
            let at = |n: &Node| {
                text.lines().nth(n.place.line as usize - 1).unwrap()[n.place.column as usize - 1..].to_owned()
            };
            assert!(at(&list[1]).trim_start_matches('"').starts_with('y'), "{text}: {list:?}");
        }
        let entry = list("a:\n  b: {\n    \"x\": 1\n  }\n");
        assert!(matches!(&entry.data, Data::Map(m) if m.len() == 1), "{entry:?}");
        // Outside of brackets, indentation has a meaning.
        assert_eq!(bad("a:\n    b: 1\n  c: 2\n").0, 3);
        assert_eq!(bad("a:\n  b: [\n    \"x\"\n  }\n").0, 4);
    }

    #[test]
    fn a_file_of_shallow_lines_is_given_up_in_time() {
        let text = format!("a:\n  b: [\n{}]\n", " \"x\",\n".repeat(LONGEST / 8));
        let mut problems = Vec::new();
        parse(&text, &mut problems);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message.contains("invalid indentation"), "{problems:?}");
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        for text in ["", "~", "null"] {
            assert_eq!(value(text), Data::Null, "{text:?}");
        }
        assert_eq!(value("true"), Data::Bool(true));
        for text in ["1", "-1", "1.50", "1e3", "0x10", "+4", ".5"] {
            assert_eq!(value(text), Data::Number(text.to_owned()), "{text:?}");
        }
        for text in ["yes", "on", "1.2.3", "64Mi", "inf", "nan", "infinity", "12:30", "1_000", "-"] {
            if text != "-" {
                assert_eq!(value(text), Data::String(text.to_owned()), "{text:?}");
            }
        }
        for text in ["\"1\"", "'1'", "!!str 1"] {
            assert_eq!(value(text), Data::String("1".to_owned()), "{text:?}");
        }
    }

    #[test]
    fn json_is_read_as_it_is() {
        let data = one("{\n\t\"a\": [1, \"x\\/y\\u0041\", null, true],\n\t\"b\": {}\n}\n");
        let Data::Map(entries) = data else { panic!() };
        let Data::List(list) = &entries[0].1.data else { panic!() };
        let data: Vec<&Data> = list.iter().map(|n| &n.data).collect();
        let text = Data::String("x/yA".to_owned());
        assert_eq!(data, [&Data::Number("1".to_owned()), &text, &Data::Null, &Data::Bool(true)]);
        assert_eq!(entries[1].1.data, Data::Map(vec![]));
    }

    #[test]
    fn documents_are_told_apart_and_empty_ones_left_out() {
        assert_eq!(good("a: 1\n---\n---\n# nothing\n---\nb: 2\n...\n").len(), 2);
        assert_eq!(good("").len(), 0);
        assert_eq!(good("# nothing\n").len(), 0);
    }

    #[test]
    fn nodes_know_their_places() {
        let documents = good("---\nspec:\n  replicas: 3\n");
        let Data::Map(top) = &documents[0].data else { panic!() };
        let Data::Map(spec) = &top[0].1.data else { panic!() };
        assert_eq!(spec[0].0.place, Position::new(3, 3, 8));
        assert_eq!(spec[0].1.place, Position::new(3, 13, 1));
    }

    #[test]
    fn aliases_and_merge_keys_are_expanded() {
        let data = one("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n");
        let Data::Map(top) = data else { panic!() };
        let Data::Map(b) = &top[1].1.data else { panic!() };
        let fields: Vec<_> =
            b.iter().map(|(k, v)| (k.data.text().unwrap(), v.data.text().unwrap())).collect();
        assert_eq!(fields, [("q", "3"), ("p", "1")]);
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut text = String::from("a0: &a0 [x]\n");
        for n in 1..12 {
            let list = format!("*a{}, ", n - 1).repeat(10);
            text += &format!("a{n}: &a{n} [{list}]\n");
        }
        assert!(bad(&text).2.contains("more than 100000 values"));
        let deep = "[".repeat(5000);
        let mut problems = Vec::new();
        parse(&deep, &mut problems);
        assert!(!problems.is_empty());
        assert!(bad(&"a: 1\n".repeat(300_000)).2.contains("larger than"));
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        assert_eq!(bad("a: 1\nb: 2\na: 3\n"), (3, 1, "duplicate key \"a\", first defined on line 1".into()));
        assert_eq!(bad("a: 1\n? [x]\n: 2\n").2, "a key must be a string, not a list");
        assert_eq!(bad("a: !mine 1\n").2, "the tag !mine is not supported");
        assert!(bad("a: \"x\n").2.contains("quoted scalar"));
        let (line, _, message) = bad("a:\n  b: 1\n c: 2\n");
        assert!(line == 3 && message.starts_with("not valid YAML: "), "{line} {message}");
    }
}
