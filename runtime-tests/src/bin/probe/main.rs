//! The program that runs inside containers and reports what it really sees, or does one thing and reports the result.

mod act;
mod attempt;
mod peek;
mod report;

use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.split_first() {
        Some((&"report", rest)) => report(rest),
        Some((&"try", rest)) => println!("{}", attempt::attempt(rest)),
        Some((verb, rest)) => act::act(verb, rest),
        None => die("no verb"),
    }
}

/// `report [--to FILE] [--path PATH]... [--sysctl NAME]... [--then VERB ARGS...]`
fn report(words: &[&str]) {
    let (mut paths, mut sysctls, mut target, mut then) = (Vec::new(), Vec::new(), None, Vec::new());
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().copied().unwrap_or_else(|| die("an option without its value"));
        match *word {
            "--path" => paths.push(value()),
            "--sysctl" => sysctls.push(value()),
            "--to" => target = Some(value()),
            "--then" => {
                then = rest.copied().collect();
                break;
            }
            other => die(&format!("what is {other:?}?")),
        }
    }
    let document = report::document(&paths, &sysctls);
    emit(target, &document);
    if let Some((verb, rest)) = then.split_first() {
        act::act(verb, rest);
    }
}

/// Writes one line of JSON to standard output, or appends it to a file.
fn emit(target: Option<&str>, document: &Value) {
    let mut line = document.to_string();
    line.push('\n');
    let result = match target {
        None => std::io::stdout().write_all(line.as_bytes()),
        Some(path) => OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes())),
    };
    if let Err(e) = result {
        die(&format!("writing the report: {e}"));
    }
}

fn die(why: &str) -> ! {
    eprintln!("probe: error: {why}");
    std::process::exit(98)
}
