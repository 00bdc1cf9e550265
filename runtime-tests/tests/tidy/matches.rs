//! A match over the operations of a plan lists them all: the compiler then names every place that a new one needs.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{ExprMatch, Pat};

/// The enums of `src/plan/op.rs`.
const OPERATIONS: [&str; 4] = ["Op", "IsolateOp", "RootOp", "ProgramOp"];

/// The lines of a source on which an arm takes whatever operation is left. To look for one operation among others,
/// use `matches!` or `if let`.
pub fn catch_all_arms(text: &str) -> Vec<usize> {
    let mut found = Arms::default();
    match syn::parse_file(text) {
        Ok(file) => found.visit_file(&file),
        Err(e) => panic!("{e}"),
    }
    found.lines
}

#[derive(Default)]
struct Arms {
    lines: Vec<usize>,
}

impl<'ast> Visit<'ast> for Arms {
    fn visit_expr_match(&mut self, found: &'ast ExprMatch) {
        if found.arms.iter().any(|arm| is_operation(&arm.pat)) {
            let catch_all = found.arms.iter().filter(|arm| is_catch_all(&arm.pat));
            self.lines.extend(catch_all.map(|arm| arm.pat.span().start().line));
        }
        visit::visit_expr_match(self, found);
    }
}

fn is_operation(pattern: &Pat) -> bool {
    let path = match pattern {
        Pat::Or(or) => return or.cases.iter().any(is_operation),
        Pat::Path(path) => &path.path,
        Pat::Struct(found) => &found.path,
        Pat::TupleStruct(found) => &found.path,
        _ => return false,
    };
    path.segments.len() == 2 && OPERATIONS.iter().any(|name| path.segments[0].ident == name)
}

fn is_catch_all(pattern: &Pat) -> bool {
    matches!(pattern, Pat::Wild(_)) || matches!(pattern, Pat::Ident(found) if found.subpat.is_none())
}

#[test]
fn arms_that_take_what_is_left_are_found() {
    let dispatch = |arms: &str| catch_all_arms(&format!("fn f(op: &Op) {{\nmatch op {{\n{arms}\n}}\n}}"));
    assert_eq!(dispatch("Op::Mount(m) => g(m),\n_ => {}"), [4]);
    assert_eq!(dispatch("RootOp::MoveRoot | RootOp::ReadonlyRoot => {}\nother => g(other),"), [4]);
    assert_eq!(dispatch("Op::Sync { .. } => match n { 1 => {}, _ => {} },\nOp::WaitForStart => {}"), []);
    assert_eq!(dispatch("Some(Op::WaitForStart) => {}\n_ => {}"), []);
}
