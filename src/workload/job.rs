//! A Job of Kubernetes: what it adds to its pods, and the rules that no table can say.

use serde_json::{Map, Value, json};

use super::check::Checker;
use super::controller::{Controller, FailureAction, FailureRule, SuccessRule};
use super::document::Document;
use super::exit_codes::{ExitCodes, Membership};
use super::model::Workload;
use super::semantic;

/// Kubernetes' backoffLimit.
const BACKOFF_LIMIT: u32 = 6;

/// Fills in what `spec`, that of a Job, says about all of its pods.
pub fn controller(spec: &Map<String, Value>, controller: &mut Controller) {
    let number = |name: &str| spec.get(name).and_then(Value::as_u64);
    let small = |name: &str| number(name).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let parallelism = small("parallelism").unwrap_or(1);
    controller.parallelism = Some(parallelism);
    controller.ttl_seconds_after_finished = number("ttlSecondsAfterFinished");
    controller.active_deadline_seconds = number("activeDeadlineSeconds");
    controller.indexed = spec.get("completionMode").is_some_and(|m| m == "Indexed");
    controller.queue = number("completions").is_none() && parallelism > 1 && !controller.indexed;
    controller.suspend = spec.get("suspend").is_some_and(|s| s == true);
    controller.backoff_limit_per_index = small("backoffLimitPerIndex");
    controller.max_failed_indexes = small("maxFailedIndexes");
    let by_index = controller.backoff_limit_per_index.is_some();
    controller.backoff_limit = small("backoffLimit").or((!by_index).then_some(BACKOFF_LIMIT));
    let rules = |policy: &str| spec.get(policy).and_then(|p| p["rules"].as_array()).into_iter().flatten();
    controller.pod_failure_policy = rules("podFailurePolicy").filter_map(failure_rule).collect();
    controller.success_policy = rules("successPolicy").map(success_rule).collect();
}

fn failure_rule(rule: &Value) -> Option<FailureRule> {
    let action: FailureAction = serde_json::from_value(rule["action"].clone()).ok()?;
    let codes = &rule["onExitCodes"];
    let exit_codes = codes.is_object().then(|| ExitCodes {
        operator: if codes["operator"] == "NotIn" { Membership::NotIn } else { Membership::In },
        values: serde_json::from_value(codes["values"].clone()).unwrap_or_default(),
    });
    let container_name = codes["containerName"].as_str().map(str::to_owned);
    Some(FailureRule { action, container_name, exit_codes })
}

fn success_rule(rule: &Value) -> SuccessRule {
    SuccessRule {
        succeeded_indexes: rule["succeededIndexes"].as_str().map(str::to_owned),
        succeeded_count: rule["succeededCount"].as_u64().map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
    }
}

/// The first and the last of each range of `text`, such as `0,2-4`.
#[must_use]
pub fn ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    let number =
        |text: &str| -> Option<u32> { text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())? };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some((first, last))
    };
    let ranges: Option<Vec<(u32, u32)>> = text.split(',').map(range).collect();
    // In order, so that none is counted twice.
    ranges.filter(|r| r.windows(2).all(|w| w[0].1 < w[1].0))
}

/// How many replicas a Job has, and how they are run again.
pub fn around(
    checker: &mut Checker<'_>,
    d: &Document<'_>,
    spec: &Map<String, Value>,
    own: &mut Map<String, Value>,
) {
    let number = |name: &str| spec.get(name).and_then(Value::as_u64);
    let parallelism = number("parallelism").unwrap_or(1);
    let indexed = spec.get("completionMode").is_some_and(|m| m == "Indexed");
    if indexed && number("completions").is_none() && parallelism > 1 {
        let hint = format!("write `completions: {parallelism}`");
        problem(checker, d, "spec.completionMode", "completionMode Indexed requires completions", Some(hint));
    }
    let completions = number("completions").unwrap_or(if indexed { 1 } else { parallelism.max(1) });
    own.insert("replicas".to_owned(), completions.into());
    // A pod that failed is run again in its place.
    own.insert("backoff".to_owned(), backoff());
    own.insert("restartPolicy".to_owned(), "OnFailure".into());
    by_index(checker, d, indexed, completions);
    failure_policy(checker, d);
    success_policy(checker, d, indexed, completions);
}

/// Kubernetes' delays before the pod of a Job is run again.
pub fn backoff() -> Value {
    let own = json!({"initial": 10, "factor": 2, "max": 360, "reset": 3600});
    let own: super::model::Backoff = serde_json::from_value(own).unwrap_or_default();
    json!(own)
}

/// The `spec` of a Job without its template, whose `pod` gets the policy that a Job must have.
pub fn written(w: &Workload, pod: &mut Map<String, Value>) -> Map<String, Value> {
    let c = w.spec.controller.clone().unwrap_or_default();
    let mut spec = Map::new();
    let mut set = |name: &str, value: Option<Value>| spec.extend(value.map(|v| (name.to_owned(), v)));
    let number = |n: Option<u32>| n.map(Value::from);
    let by_index = c.backoff_limit_per_index.is_some();
    set("parallelism", number(c.parallelism));
    let completions = c.cron.as_ref().map_or(w.spec.replicas, |cron| cron.completions);
    set("completions", (!c.queue).then(|| completions.into()));
    set("completionMode", c.indexed.then(|| "Indexed".into()));
    set("backoffLimit", number(c.backoff_limit));
    set("backoffLimitPerIndex", number(c.backoff_limit_per_index));
    set("maxFailedIndexes", number(c.max_failed_indexes));
    set("activeDeadlineSeconds", c.active_deadline_seconds.map(Value::from));
    set("ttlSecondsAfterFinished", c.ttl_seconds_after_finished.map(Value::from));
    set("suspend", c.suspend.then(|| true.into()));
    let failure: Vec<Value> = c.pod_failure_policy.iter().map(written_failure).collect();
    let never = by_index || !failure.is_empty();
    set("podFailurePolicy", (!failure.is_empty()).then(|| json!({"rules": failure})));
    let success = |r: &SuccessRule| {
        let mut rule = Map::new();
        rule.extend(r.succeeded_indexes.clone().map(|i| ("succeededIndexes".to_owned(), i.into())));
        rule.extend(r.succeeded_count.map(|n| ("succeededCount".to_owned(), n.into())));
        Value::Object(rule)
    };
    let success: Vec<Value> = c.success_policy.iter().map(success).collect();
    set("successPolicy", (!success.is_empty()).then(|| json!({"rules": success})));
    pod.insert("restartPolicy".to_owned(), if never { "Never" } else { "OnFailure" }.into());
    spec
}

fn written_failure(r: &FailureRule) -> Value {
    let mut rule = json!({"action": r.action});
    match &r.exit_codes {
        Some(codes) => {
            rule["onExitCodes"] = json!(codes);
            if let Some(name) = &r.container_name {
                rule["onExitCodes"]["containerName"] = name.clone().into();
            }
        }
        None => rule["onPodConditions"] = json!([{"type": "DisruptionTarget"}]),
    }
    rule
}

fn problem(checker: &mut Checker<'_>, d: &Document<'_>, path: &str, message: &str, hint: Option<String>) {
    checker.error(semantic::place(d.node, path), path, message, hint);
}

fn has(d: &Document<'_>, path: &str) -> bool {
    semantic::node(d.node, path).is_some()
}

fn by_index(checker: &mut Checker<'_>, d: &Document<'_>, indexed: bool, completions: u64) {
    let per_index = has(d, "spec.backoffLimitPerIndex");
    if per_index && !indexed {
        let hint = Some("write `completionMode: Indexed`".to_owned());
        let message = "backoffLimitPerIndex requires completionMode Indexed";
        problem(checker, d, "spec.backoffLimitPerIndex", message, hint);
    }
    if per_index {
        never(checker, d, "backoffLimitPerIndex");
    }
    if !has(d, "spec.maxFailedIndexes") {
        return;
    }
    if !per_index {
        let message = "maxFailedIndexes requires backoffLimitPerIndex";
        problem(checker, d, "spec.maxFailedIndexes", message, None);
    }
    let most = semantic::text(d.node, "spec.maxFailedIndexes").and_then(|t| t.parse::<u64>().ok());
    if most.is_some_and(|most| most > completions) {
        let message = "maxFailedIndexes must not be greater than completions";
        problem(checker, d, "spec.maxFailedIndexes", message, None);
    }
}

/// A field that Kubernetes takes only with restartPolicy Never.
fn never(checker: &mut Checker<'_>, d: &Document<'_>, field: &str) {
    let path = "spec.template.spec.restartPolicy";
    if semantic::text(d.node, path).is_some_and(|p| p != "Never") {
        let message = format!("{field} requires restartPolicy Never");
        problem(checker, d, path, &message, Some("write `restartPolicy: Never`".to_owned()));
    }
}

fn failure_policy(checker: &mut Checker<'_>, d: &Document<'_>) {
    if !has(d, "spec.podFailurePolicy") {
        return;
    }
    never(checker, d, "podFailurePolicy");
    let mut names = Vec::new();
    for list in ["containers", "initContainers"] {
        let at = |n: usize| format!("spec.template.spec.{list}[{n}]");
        let each = (0..).take_while(|n| has(d, &at(*n)));
        names.extend(each.filter_map(|n| semantic::text(d.node, &format!("{}.name", at(n)))));
    }
    let at = |n: usize| format!("spec.podFailurePolicy.rules[{n}]");
    for path in (0..).map(at).take_while(|path| has(d, path)) {
        let (codes, conditions) = (format!("{path}.onExitCodes"), format!("{path}.onPodConditions"));
        if has(d, &codes) == has(d, &conditions) {
            let message = "a rule must have one of onExitCodes and onPodConditions";
            problem(checker, d, &path, message, None);
        }
        let text = |field: &str| semantic::text(d.node, &format!("{path}.{field}"));
        if text("action").as_deref() == Some("FailIndex") && !has(d, "spec.backoffLimitPerIndex") {
            let hint = Some("write `backoffLimitPerIndex: N` into spec".to_owned());
            let message = "FailIndex requires backoffLimitPerIndex";
            problem(checker, d, &format!("{path}.action"), message, hint);
        }
        if let Some(name) = text("onExitCodes.containerName")
            && !names.contains(&name)
        {
            let message = format!("no container is called {name:?}");
            let hint = Some(format!("containers are {}", names.join(", ")));
            problem(checker, d, &format!("{codes}.containerName"), &message, hint);
        }
        let zero =
            (0..).map(|n| text(&format!("onExitCodes.values[{n}]"))).map_while(|v| v).any(|v| v == "0");
        if zero && text("onExitCodes.operator").as_deref() == Some("In") {
            let message = "0 is not a failure, and no rule is asked about it";
            problem(checker, d, &format!("{codes}.values"), message, None);
        }
    }
}

fn success_policy(checker: &mut Checker<'_>, d: &Document<'_>, indexed: bool, completions: u64) {
    if !has(d, "spec.successPolicy") {
        return;
    }
    if !indexed {
        let hint = Some("write `completionMode: Indexed`".to_owned());
        problem(checker, d, "spec.successPolicy", "successPolicy requires completionMode Indexed", hint);
    }
    let at = |n: usize| format!("spec.successPolicy.rules[{n}]");
    for path in (0..).map(at).take_while(|path| has(d, path)) {
        let (indexes, count) = (format!("{path}.succeededIndexes"), format!("{path}.succeededCount"));
        if !has(d, &indexes) && !has(d, &count) {
            let message = "a rule must have succeededIndexes or succeededCount";
            problem(checker, d, &path, message, None);
        }
        let mut size = completions;
        if let Some(text) = semantic::text(d.node, &indexes) {
            let found = ranges(&text);
            if found.as_ref().is_none_or(|r| r.iter().any(|(_, last)| u64::from(*last) >= completions)) {
                let message = format!("succeededIndexes must be numbers below {completions} in rising order");
                problem(checker, d, &indexes, &message, Some("as in `0,2-4`".to_owned()));
                continue;
            }
            size = found.iter().flatten().map(|(first, last)| u64::from(last - first) + 1).sum();
        }
        let wanted = semantic::text(d.node, &count).and_then(|t| t.parse::<u64>().ok());
        if wanted.is_some_and(|wanted| wanted > size) {
            let message = format!("succeededCount must not be greater than the number of indexes, {size}");
            problem(checker, d, &count, &message, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::read;

    const JOB: &str = "apiVersion: batch/v1
kind: Job
metadata: {name: sum}
spec:
  completions: 4
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: nginx}]
";

    fn with(more: &str) -> String {
        JOB.replace("  completions: 4\n", &format!("  completions: 4\n{more}"))
    }

    fn read_one(text: &str) -> Controller {
        let read = read("f", text, None);
        let workloads = read.workloads().unwrap_or_else(|e| panic!("{e:?}"));
        workloads[0].spec.controller.clone().unwrap()
    }

    #[test]
    fn the_policies_of_a_job_are_read() {
        let c = read_one(&with(
            "  completionMode: Indexed
  backoffLimitPerIndex: 1
  maxFailedIndexes: 2
  activeDeadlineSeconds: 60
  podFailurePolicy:
    rules:
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget}]
    - action: FailJob
      onExitCodes: {containerName: main, operator: In, values: [42, 43]}
  successPolicy: {rules: [{succeededIndexes: '0,2-3', succeededCount: 2}]}
",
        ));
        assert_eq!(
            (c.backoff_limit, c.backoff_limit_per_index, c.max_failed_indexes),
            (None, Some(1), Some(2))
        );
        assert_eq!(c.active_deadline_seconds, Some(60));
        let rules = &c.pod_failure_policy;
        assert_eq!((rules[0].action, &rules[0].exit_codes), (FailureAction::Ignore, &None));
        let codes = ExitCodes { operator: Membership::In, values: vec![42, 43] };
        assert_eq!((rules[1].container_name.as_deref(), &rules[1].exit_codes), (Some("main"), &Some(codes)));
        assert_eq!(c.success_policy[0].succeeded_indexes.as_deref(), Some("0,2-3"));
    }

    #[test]
    fn without_completions_it_is_a_queue() {
        let queue = JOB.replace("  completions: 4", "  parallelism: 3");
        let read = read("f", &queue, None).workloads().unwrap();
        let c = read[0].spec.controller.clone().unwrap();
        assert!(c.queue && read[0].spec.replicas == 3);
        let single = read_one(&JOB.replace("  completions: 4", "  backoffLimit: 2"));
        assert_eq!((single.queue, single.backoff_limit), (false, Some(2)));
    }

    #[test]
    fn ranges_rise() {
        assert_eq!(ranges("0,2-4"), Some(vec![(0, 0), (2, 4)]));
        for bad in ["", "1,", "-1", "3-2", "2,1", "1,1", "a", "0-2,2", "+1", "99999999999"] {
            assert_eq!(ranges(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_job_cannot_say_is_an_error_with_its_line() {
        let rule = |rule: &str| format!("  podFailurePolicy: {{rules: [{{{rule}}}]}}\n");
        let cases = [
            ("  backoffLimitPerIndex: 1\n".to_owned(), "requires completionMode Indexed"),
            ("  maxFailedIndexes: 1\n".to_owned(), "requires backoffLimitPerIndex"),
            (rule("action: FailJob"), "one of onExitCodes and onPodConditions"),
            (rule("action: FailIndex, onExitCodes: {operator: In, values: [1]}"), "requires backoffLimitPerIndex"),
            (rule("action: Count, onExitCodes: {operator: In, values: [0]}"), "0 is not a failure"),
            (
                rule("action: Count, onExitCodes: {containerName: x, operator: In, values: [1]}"),
                "no container is called \"x\"",
            ),
            ("  successPolicy: {rules: [{succeededCount: 1}]}\n".to_owned(), "requires completionMode Indexed"),
            (
                "  completionMode: Indexed\n  successPolicy: {rules: [{succeededIndexes: '2-4'}]}\n".to_owned(),
                "numbers below 4",
            ),
            (
                "  completionMode: Indexed\n  successPolicy: {rules: [{succeededIndexes: '1', succeededCount: 2}]}\n"
                    .to_owned(),
                "the number of indexes, 1",
            ),
        ];
        for (more, expected) in cases {
            let findings = read("f", &with(&more), None).findings;
            let text = format!("{findings:?}");
            assert!(findings.errors() > 0 && text.contains(&expected.replace('"', "\\\"")), "{more}: {text}");
        }
        let policy = rule("action: Count, onExitCodes: {operator: In, values: [1]}");
        let findings = read("f", &with(&policy).replace("Never", "OnFailure"), None).findings;
        assert!(
            format!("{findings:?}").contains("podFailurePolicy requires restartPolicy Never"),
            "{findings:?}"
        );
    }
}
