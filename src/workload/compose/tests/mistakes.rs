//! Problems reported about invalid files.

use super::wrong;

/// A field of a service in line 4, and what is reported.
const MISTAKES: &[(&str, &str)] = &[
    ("imag: y", "4:5 unknown field \"imag\" [did you mean \"image\"?]"),
    (
        "ports: ['a:80']",
        "4:13 \"a\" is not a port [write HOST:CONTAINER, as 8080:80, 127.0.0.1:8080:80 or 53:53/udp]",
    ),
    (
        "restart: sometimes",
        "4:14 unknown restart policy \"sometimes\" [expected no, always, unless-stopped, on-failure or on-failure:N]",
    ),
    ("depends_on: [wbe]", "4:18 \"web\" depends on \"wbe\", which is not a service [did you mean \"web\"?]"),
    (
        "depends_on: [web]",
        "4:17 services depend on each other: web -> web [leave one of these dependencies out]",
    ),
    (
        "volumes: ['data:/data']",
        "4:15 no volume has the name \"data\" [write `data:` below `volumes:` at the top level]",
    ),
    (
        "networks: [front]",
        "4:16 no network has the name \"front\" [write `front:` below `networks:` at the top level]",
    ),
    ("secrets: [pw]", "4:15 no secret has the name \"pw\" [write `pw:` below `secrets:` at the top level]"),
    ("configs: [c]", "4:15 no config has the name \"c\" [write `c:` below `configs:` at the top level]"),
    (
        "stop_grace_period: 10",
        "4:24 stop_grace_period must be a duration with a unit, such as 500ms, 30s or 1m30s [did you mean 10s?]",
    ),
    ("mem_limit: lots", "4:16 mem_limit must be a number of bytes such as 67108864, 64m or 1.5gb"),
    ("privileged: maybe", "4:17 privileged must be true or false"),
    (
        "network_mode: service:db",
        "4:19 no service of the project has the name \"db\" [name a service of this project: containers of others cannot be joined]",
    ),
    (
        "ulimits: {files: 3}",
        "4:15 no limit has the name \"files\" [limits are as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack]",
    ),
    ("gpus: all", "4:5 gpus is not supported [orund does not look for GPUs: name their devices in devices]"),
    (
        "volumes: ['/var/run/docker.sock:/s']",
        "warning: 4:15 there may be no Docker here [programs that watch or control Docker see nothing of orund's containers]",
    ),
    ("command: 'a \"b'", "4:14 a quote is not closed"),
    (
        "environment: [A=$B]",
        "warning: 4:19 variable B is not set: it is replaced by nothing [set it in the environment or in .env, or write ${B:-DEFAULT}]",
    ),
    (
        "environment: ['A=${B?}']",
        "4:19 variable B is not set [set B in the environment, in .env or with --env-file]",
    ),
    ("environment: [A=a$]", "4:19 \"$\" is not a variable [write `$$` for a dollar]"),
    (
        "env_file: a.env",
        "4:15 the file \"/srv/shop/a.env\" does not exist [make it, or write `- path: FILE` and `required: false`]",
    ),
    ("extends: {service: base}", "4:14 this file has no service \"base\""),
    ("extends: web", "4:14 services extend each other: web -> web"),
    (
        "healthcheck: {test: [x]}",
        "4:18 test must begin with CMD, CMD-SHELL or NONE [write [CMD, PROGRAM, ARGUMENT], [CMD-SHELL, LINE] or a string]",
    ),
    ("deploy: {replica: 2}", "4:14 unknown field \"replica\" [did you mean \"replicas\"?]"),
    ("replicas: 2", "4:5 unknown field \"replicas\" [it belongs in services.NAME.deploy]"),
];

/// Problems reported about a service with these fields.
fn of(service: &str) -> Vec<String> {
    wrong(&format!("services:\n  web:\n    image: x\n    {service}\n"))
}

#[test]
fn each_mistake_has_its_place_and_the_way_out() {
    for (service, expected) in MISTAKES {
        assert_eq!(of(service), [*expected], "{service}");
    }
}

#[test]
fn what_does_not_fit_together_is_reported_where_it_is_written() {
    assert_eq!(
        of("scale: 2\n    container_name: a"),
        ["5:21 container_name names one container, and there are 2 replicas [leave container_name out]"]
    );
    assert_eq!(
        of("scale: 2\n    deploy: {replicas: 3}"),
        ["4:12 scale is 2 and deploy.replicas is 3 [leave one of both out]"]
    );
    assert_eq!(
        wrong("services:\n  a: {image: x, ports: ['80:80']}\n  b: {image: x, ports: ['80:81']}\n"),
        ["3:24 port 80 of the host is published by \"a\", too [choose another port]"]
    );
    assert_eq!(
        wrong(
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: {a: {condition: service_healthy}}}\n"
        ),
        ["2:29 services depend on each other: a -> b -> a [leave one of these dependencies out]"]
    );
    assert_eq!(
        wrong("services:\n  a: {build: {context: ., secrets: [pw]}}\n"),
        [
            "warning: 2:14 the image exists only after it was built [`orund apply --build` builds it]",
            "2:27 build.secrets is not supported [build the image yourself, and write `image: NAME`]"
        ]
    );
    assert_eq!(wrong("services: {a: {}}\n"), ["1:15 field \"image\" is missing [write `image: NAME`]"]);
    assert_eq!(
        wrong("services:\n  my_a: {image: x}\n  my-a: {image: x}\n")[0],
        "3:9 services \"my_a\" and \"my-a\" both become workload \"my-a\" [give one of them another name]"
    );
}
