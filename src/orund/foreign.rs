//! Commands of other tools: the answer is our spelling.

use crate::error::{Error, Kind};
use crate::orund::Arguments;
use clap::CommandFactory;

/// Words before a verb that only say which tool, or which kind of object.
const TOOLS: &[&str] = &[
    "swarm",
    "service",
    "docker",
    "kubectl",
    "podman",
    "compose",
    "stack",
    "container",
    "pod",
    "job",
    "workload",
    "oc",
];

/// The error for a command line that begins with a verb of another tool.
pub fn hint(words: &[String]) -> Option<Error> {
    let first = words.first().filter(|w| !w.starts_with('-'))?;
    // Of all that kubectl creates, only a job is made so.
    let job = words.get(1).is_none_or(|w| w == "job" || w.starts_with("--help") || w == "-h");
    if is_ours(first) && (first != "create" || job) {
        return None;
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ours = spelling(&words)?;
    let e = Error::new(Kind::Usage, format!("orund has no command {first:?}"));
    Some(e.hint(format!("use `orund {}`", ours.escape_debug())))
}

fn is_ours(word: &str) -> bool {
    word == "help" || Arguments::command().get_subcommands().any(|c| c.get_name() == word)
}

/// The same in our words.
fn spelling(words: &[&str]) -> Option<String> {
    let (verb, rest) = words.split_first()?;
    let names: Vec<&str> = rest.iter().copied().filter(|w| !w.starts_with('-')).collect();
    let of = |verb: &str| match names.is_empty() {
        true => format!("{verb} NAME"),
        false => format!("{verb} {}", names.join(" ")),
    };
    let file = |verb: &str| {
        let given =
            rest.iter().position(|w| ["-f", "-c", "--file", "--filename", "--compose-file"].contains(w));
        let file = given.and_then(|n| rest.get(n + 1)).or(names.iter().find(|n| n.contains('.')));
        format!("{verb} -f {}", file.unwrap_or(&"FILE"))
    };
    Some(match *verb {
        tool if TOOLS.contains(&tool) => match rest.split_first() {
            None => return None,
            Some((&"ps", of_one)) if !of_one.is_empty() => format!("get replicas {}", of_one.join(" ")),
            Some((&"ls" | &"list" | &"ps", _)) if tool != "container" && tool != "pod" => "get".to_owned(),
            Some((&"scale", targets)) => scale(targets),
            Some((verb, _)) if is_ours(verb) => rest.join(" "),
            Some(_) => return spelling(rest),
        },
        "scale" => scale(rest),
        "ps" | "ls" | "list" | "pods" | "tasks" => "get replicas".to_owned(),
        "up" | "create" | "deploy" | "update" | "replace" | "set" | "edit" | "patch" | "submit" => {
            file("apply")
        }
        "down" => file("delete"),
        "rm" | "remove" | "destroy" | "purge" => of("delete"),
        "inspect" | "show" => of("describe"),
        "status" => of("get"),
        "stats" => "top".to_owned(),
        "rollback" | "undo" => of("rollout undo"),
        "pause" => of("rollout pause"),
        "unpause" | "resume" => of("rollout resume"),
        "history" => of("rollout history"),
        "diff" => format!("{} --diff", file("apply")),
        "daemon" | "server" | "start-server" => "serve".to_owned(),
        "config" | "lint" | "check" => file("validate"),
        _ => return None,
    })
}

/// `scale web=3`, from `scale web 3`, `scale web=3`, `scale --replicas=3 web`.
fn scale(words: &[&str]) -> String {
    let number = words.iter().find_map(|w| w.strip_prefix("--replicas="));
    let names: Vec<&str> = words.iter().copied().filter(|w| !w.starts_with('-')).collect();
    match (names[..].split_first(), number) {
        (None, _) => "scale NAME=N".to_owned(),
        (Some((name, [])), Some(n)) => format!("scale {name}={n}"),
        (Some((name, [n])), None) if !name.contains('=') => format!("scale {name}={n}"),
        (Some((name, [])), None) if !name.contains('=') => format!("scale {name}=N"),
        (Some(_), _) => format!("scale {}", names.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn verbs_of_other_tools_are_answered_with_ours() {
        for (typed, ours) in [
            ("swarm scale my-service 3", "scale my-service=3"),
            ("service scale web=3", "scale web=3"),
            ("kubectl scale --replicas=3 deployment/web", "scale deployment/web=3"),
            ("service ls", "get"),
            ("service ps web", "get replicas web"),
            ("service logs web", "logs web"),
            ("ps", "get replicas"),
            ("ps -a", "get replicas"),
            ("up", "apply -f FILE"),
            ("up -d -f compose.yaml", "apply -f compose.yaml"),
            ("stack deploy -c stack.yml web", "apply -f stack.yml"),
            ("create -f web.yaml", "apply -f web.yaml"),
            ("down", "delete -f FILE"),
            ("rm web api", "delete web api"),
            ("inspect web", "describe web"),
            ("rollback web", "rollout undo web"),
            ("kubectl get pods", "get pods"),
        ] {
            let words: Vec<&str> = typed.split(' ').collect();
            assert_eq!(spelling(&words).as_deref(), Some(ours), "{typed}");
            // The proposal is a command line of ours.
            let line = std::iter::once("orund").chain(ours.split(' '));
            assert!(Arguments::try_parse_from(line).is_ok(), "{ours}");
        }
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(hint(&words("get pods")).is_none() && hint(&words("nonsense")).is_none());
        let text = hint(&words("rm web\u{1b}[31m")).unwrap().to_string();
        assert!(text.contains("orund has no command \"rm\"") && !text.contains('\u{1b}'), "{text}");
    }
}
