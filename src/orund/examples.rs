//! The ends of the help texts: examples, and what a manual page has besides the options.

pub const ORUND: &str = "\
Examples:
  orund run --replicas 3 ./web                Three replicas of a bundle in the foreground
  orund serve &                               Start the daemon
  orund apply -f web.yaml --wait              Create the workloads of a file and wait until they are ready
  orund get; orund logs web -f; orund describe web

Environment:
  ORUND_SOCKET                                Socket of the daemon

Files:
  /run/orund/orund.sock                       Socket of the daemon
  /var/lib/orund                              Desired state
  /run/orund                                  Runtime state
  /var/log/orund                              Logs of containers

Exit status:
  0 success, 1 failure, 2 invalid arguments, 3 timeout (--timeout); for exec, that of the program, or 255 if exec failed.";

pub const SERVE: &str = "\
Examples:
  orund serve
  orund serve --data-dir /srv/orund --socket /run/orund/orund.sock
  systemctl enable --now orund.socket orund   With the units of scripts/systemd
  systemd-run --user --scope -p Delegate=yes orund serve
                                              For a user without root: in a user namespace, with limits

SIGTERM stops the daemon; the containers keep running, and the next daemon adopts them.

Environment:
  LISTEN_FDS, LISTEN_PID                      Socket passed by systemd
  NOTIFY_SOCKET                               Where systemd is notified that the daemon is ready
  XDG_RUNTIME_DIR, XDG_DATA_HOME, XDG_STATE_HOME
                                              Parents of the directories of a user without root";

pub const RUN: &str = "\
Examples:
  orund run ./web
  orund run --replicas 3 oci:./image:1.4
  orund run --replicas 3 --grace 10s ./web
  orund run --replicas 3 --publish 8080:80 nginx:1.27
  orund run -p 127.0.0.1:53:5353/udp -p 8000-8002:80-82 ./web
  orund run -it demo:1 sh
  orund run --restart on-failure -e DEBUG=1 ./web sh -c 'exit 3'

Ctrl-C stops the replicas gracefully; a second Ctrl-C kills them.

With --publish connections to the port of the host are balanced over the replicas, and wait for up to 30 s while none of them
runs. The replicas then have a bridge of their own, which is removed with the last of them.

Exit status:
  0 all replicas exited successfully or were stopped, 1 a replica failed or could not be started,
  2 invalid arguments, 3 a replica had to be killed. With -i or -t: that of the program, 128 + N if signal N killed it,
  255 if it could not be started.";

pub const IMAGE: &str = "\
Examples:
  orund image pull registry.local:5000/web:1.4
  docker save web:1.4 | orund image load
  orund image ls
  orund image inspect web:1.4
  orund explain image web:1.4                 The config.json of a container of it
  orund image prune --all
  orund image df

These commands need no daemon. They use the credentials of \"docker login\", \"podman login\" and /etc/orun/auth.json, and the
mirrors in /etc/containers/registries.conf.

Environment:
  ORUND_REGISTRY_TIMEOUT                      Timeout of a silent registry in seconds [default: 30]

Files:
  /var/lib/orund/images                       Layers, manifests and names

Exit status:
  0 success, 1 failure, 2 invalid arguments.";

pub const APPLY: &str = "\
Examples:
  orund apply -f web.yaml
  orund apply -f manifests/ --wait --timeout 1m
  orund apply -f compose.yaml -p shop --prune   Apply a Compose project; delete objects no longer in its file
  orund apply -f web.yaml --diff                Print the changes without applying them
  cat web.yaml | orund apply -f -

For the format of the file, see orund-workload(5) and docs/orund.md.

Exit status:
  0 success, 1 failure, 2 invalid arguments, 3 timeout; with --diff: 0 no changes, 1 changes, 2 failure.";

pub const JOURNAL: &str = "\
Examples:
  orund journal verify
  orund journal dump --dir /run/orund/state
  systemctl stop orund && orund journal repair && systemctl start orund

The daemon stores workloads in a snapshot and a journal of later changes. An interrupted write leaves an incomplete record at
the end of the journal; its change was never acknowledged, and the next start removes it. If there is other damage or a record
of a newer version, the daemon does not start and changes no file.

Exit status:
  0 success, 1 damaged, of a newer version or in use, 2 invalid arguments.";

pub const VALIDATE: &str = "\
Examples:
  orund validate -f web.yaml
  orund validate --fix -f web.yaml > corrected.yaml";

pub const EXPLAIN: &str = "\
Examples:
  orund explain deployment.spec.strategy
  orund explain terminationGracePeriodSeconds";

pub const CONVERT: &str = "\
Examples:
  orund convert --to orun -f deployment.yaml
  orund convert --to kubernetes -f web.yaml";

pub const GET: &str = "\
Examples:
  orund get
  orund get web
  orund get pods -l app=web
  orund get replicas web -o wide
  orund get workloads web -o yaml
  orund get secrets
  orund get all
  orund get -o name
  orund get replicas -w";

pub const DESCRIBE: &str = "\
Examples:
  orund describe web
  orund describe web-0
  orund describe configmap web-conf";

pub const SCALE: &str = "\
Examples:
  orund scale web=5 --wait
  orund scale web 5
  orund scale web=0 api=2";

pub const LOGS: &str = "\
Examples:
  orund logs web -f
  orund logs web-0 --tail 20 -t
  orund logs web-0 --previous
  orund logs web --since 10m";

pub const EXEC: &str = "\
Examples:
  orund exec -it web-0 -- sh
  orund exec --user 1000 --workdir /srv web -- ls -l

Exit status:
  That of the program, 128 + N if signal N killed it, 127 if it does not exist, 126 if it cannot be executed, 255 if exec
  itself failed.";

pub const ATTACH: &str = "\
Examples:
  orund attach web-0
  orund attach web-0 -c app --detach-keys ctrl-x
  echo word | orund attach reader-0

For earlier output, use `orund logs`. A container with `tty` and `stdin` receives your keys. Press ctrl-p ctrl-q to detach; the
container keeps running.

Exit status:
  That of the program, 128 + N if signal N killed it; 0 after detaching, 255 if attach itself failed.";

pub const EVENTS: &str = "\
Examples:
  orund events
  orund events web -w";

pub const STATUS: &str = "\
Examples:
  orund status
  orund status -w
  orund status -o json

Exit status:
  0 no problems, 1 problems, or the supervisor does not answer.";

pub const DASHBOARD: &str = "\
Examples:
  orund dashboard
  orund dashboard --port 0
  orund dashboard --token-file /etc/orun/dashboard.token    For bookmarks and Prometheus
  ssh -L 9180:127.0.0.1:9180 HOST             On another host; then open the printed address

The page is read-only. Every request needs the token in the printed address, so other users of the host have no access.";

pub const PORT: &str = "\
Examples:
  orund port
  orund port web
  orund port web 8080
  orund port dns 53/udp";

pub const TOP: &str = "\
Examples:
  orund top
  orund top --sort-by memory
  orund top web --once

Keys:
  c, m, p, r, n                               Sort by CPU, memory, processes, restarts or name
  /                                           Filter: type a text and Enter; Escape shows all rows
  q                                           Quit";

pub const CREATE: &str = "\
Examples:
  orund create job report-now --from=cronjob/report
  orund wait report-now --for complete";

pub const WAIT: &str = "\
Examples:
  orund wait web
  orund wait web api --for complete --timeout 1h
  orund wait web --for replicas=3

Exit status:
  0 the condition is met, 3 timeout.";

pub const RESTART: &str = "\
Examples:
  orund restart web --wait
  orund restart web-2";

pub const ROLLOUT: &str = "\
Examples:
  orund rollout status web
  orund rollout history web
  orund rollout undo web --to-revision 2 --wait
  orund rollout pause web";

pub const STOP: &str = "\
Examples:
  orund stop web --wait
  orund stop web api";

pub const START: &str = "\
Examples:
  orund start web --wait";

pub const DELETE: &str = "\
Examples:
  orund delete web --wait
  orund delete configmap web-conf
  orund delete -f web.yaml
  orund delete -l app=web
  orund delete --all --wait
  orund delete web --grace-period 3s
  orund delete web api --now";

pub const KILL: &str = "\
Examples:
  orund kill -s HUP web-0
  orund kill --signal SIGUSR1 web

The restart policy decides whether a container that exits starts again. Use `orund stop` to stop a workload.";

pub const DRAIN: &str = "\
Examples:
  orund drain
  orund drain --timeout 2m
  orund drain --undo

orund-shutdown.service runs this when the host shuts down. The workloads do not change: they start again at the next boot. A
restart of the daemon does not end a drain.

Exit status:
  0 no replica runs, 1 failure, 3 timeout.";

pub const COMPLETION: &str = "\
Examples:
  orund completion bash > /usr/share/bash-completion/completions/orund
  orund completion zsh > /usr/local/share/zsh/site-functions/_orund
  orund completion fish > /usr/share/fish/vendor_completions.d/orund.fish";

#[cfg(test)]
mod tests {
    use crate::orund::Arguments;
    use clap::{CommandFactory, Parser};

    fn verbs() -> Vec<clap::Command> {
        let command = Arguments::command();
        command.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect()
    }

    #[test]
    fn every_verb_has_examples_that_parse() {
        for verb in verbs() {
            let text = verb.get_after_help().map(|t| t.to_string()).unwrap_or_default();
            let of_verb = format!("orund {} ", verb.get_name());
            let lines: Vec<&str> = text.lines().filter_map(|l| l.find("orund ").map(|at| &l[at..])).collect();
            let lines: Vec<&str> =
                lines.into_iter().filter(|l| format!("{l} ").starts_with(&of_verb)).collect();
            assert!(!lines.is_empty(), "{}", verb.get_name());
            for line in lines {
                let line = line.split("  ").next().unwrap_or(line).split(" > ").next().unwrap_or(line);
                let words = line.split(' ').map(|w| w.trim_matches('\''));
                assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn every_argument_is_described() {
        for verb in verbs() {
            for arg in verb.get_arguments() {
                assert!(arg.get_help().is_some(), "{}: {}", verb.get_name(), arg.get_id());
            }
        }
    }
}
