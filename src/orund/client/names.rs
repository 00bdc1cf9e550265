//! Completions beyond clap's scripts: the names of workloads and replicas, from the daemon.

use clap_complete::Shell;

pub use super::kinds::{bare, kind};

/// Verbs whose arguments are workloads.
const OF_WORKLOADS: &str = "wait delete scale top";
/// Verbs whose arguments are workloads or replicas.
const OF_REPLICAS: &str = "describe logs exec events restart";

/// The part of the script that completes names; it follows clap's script, whose function is `_orund`.
pub fn script(shell: Shell) -> String {
    let text = match shell {
        Shell::Bash => BASH,
        Shell::Fish => FISH,
        _ => return String::new(),
    };
    text.replace("WORKLOADS", OF_WORKLOADS).replace("REPLICAS", OF_REPLICAS)
}

const BASH: &str = r#"
# Names of workloads and replicas, from the daemon.
_orund_with_names() {
    local word verb= names=
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ " WORKLOADS REPLICAS " != *" $word "* ]] || { verb=$word; break; }
    done
    if [ -z "$verb" ] || [[ $2 == -* ]]; then
        _orund "$@"
        return
    fi
    names=$(orund get -o name 2>/dev/null)
    [[ " REPLICAS " != *" $verb "* ]] || names+=" $(orund get replicas -o name 2>/dev/null)"
    names=$(sed -E 's|[a-z]+/||g' <<<"$names")
    mapfile -t COMPREPLY < <(compgen -W "$names" -- "$2")
}
complete -F _orund_with_names -o bashdefault -o default orund
"#;

const FISH: &str = r#"
# Names of workloads and replicas, from the daemon.
function __orund_names
    orund get $argv -o name 2>/dev/null | string replace -r '^[a-z]*/' ''
end
complete -c orund -f -n "__fish_seen_subcommand_from WORKLOADS REPLICAS" -a "(__orund_names workloads)"
complete -c orund -f -n "__fish_seen_subcommand_from REPLICAS" -a "(__orund_names replicas)"
"#;

/// In zsh the names complete the operands that clap calls by these names.
pub fn in_zsh(script: &str) -> String {
    let mut out = String::new();
    for line in script.lines() {
        let operand = ["':name -- ", "'*::names -- ", "'::name -- ", "'*::words -- "]
            .iter()
            .any(|o| line.starts_with(o));
        match line.strip_suffix(":_default' \\").filter(|_| operand) {
            Some(line) => out.push_str(&format!("{line}:_orund_names' \\\n")),
            None => out.push_str(&format!("{line}\n")),
        }
    }
    out.replacen("\n_orund() {", &format!("\n{ZSH}\n_orund() {{"), 1)
}

const ZSH: &str = r#"_orund_names() {
    local -a names
    names=(${${(f)"$(orund get -o name 2>/dev/null; orund get replicas -o name 2>/dev/null)"}#*/})
    compadd -a names
}
"#;

#[cfg(test)]
mod tests {
    use crate::orund::client::scripts;
    use clap_complete::Shell;
    use std::process::Command;

    /// The completions of the last word in bash, with an `orund` that knows one workload of two replicas.
    fn completed(words: &[&str]) -> String {
        let fake = "orund() { case $* in 'get -o name') echo workload/web ;; *) echo replica/web-0; echo replica/web-1 ;; esac; }";
        let list = words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" ");
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let run = format!(
            "{}\n{fake}\nCOMP_WORDS=({list}); COMP_CWORD={}; _orund_with_names orund '{last}' '{before}'; echo \"${{COMPREPLY[@]}}\"",
            scripts::text(Shell::Bash),
            words.len() - 1
        );
        let out = Command::new("bash").args(["--norc", "-c", &run]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    #[test]
    fn bash_completes_names_flags_and_verbs() {
        assert_eq!(completed(&["orund", "delete", ""]), "web");
        assert_eq!(completed(&["orund", "logs", "web-"]), "web-0 web-1");
        assert_eq!(completed(&["orund", "--debug", "describe", "w"]), "web web-0 web-1");
        assert!(completed(&["orund", "logs", "--fol"]).contains("--follow"));
        assert!(completed(&["orund", "desc"]).contains("describe"));
    }

    #[test]
    fn the_other_shells_ask_for_names_too() {
        assert!(scripts::text(Shell::Fish).contains("__orund_names replicas"));
        let zsh = scripts::text(Shell::Zsh);
        assert!(zsh.contains("\n_orund_names() {") && zsh.matches(":_orund_names'").count() >= 6, "{zsh}");
    }
}
