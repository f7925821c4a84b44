//! Rules: parsing, matching, deciding.

use proptest::prelude::*;
use rstest::rstest;

use super::super::Parent;
use super::super::tests::{node, python};
use super::*;

fn allows(rule: &str, process: &Process) -> bool {
    rule.parse::<Rule>().unwrap().allows(process)
}

fn allow(rule: &str) -> Allow {
    Allow { rule: rule.parse().unwrap(), settings: Arc::default() }
}

#[rstest]
#[case("cgroup=*/orders.service", true)]
#[case("cgroup=*/users.service", false)]
#[case("container=4f2a*", true)]
#[case("!container=*", false)]
#[case("label=app=ord*", true)]
#[case("label=app", true)]
#[case("label=app=mail", false)]
#[case("label=tier=web", true)]
#[case("label=none", false)]
#[case("!label=none", true)]
#[case("pod=orders-*", true)]
#[case("pod=orders", false)]
#[case("namespace=shop", true)]
#[case("!namespace=shop", false)]
#[case("env=TEAM", true)]
#[case("env=TEAM=pay*", true)]
#[case("env=TEAM=search", false)]
#[case("env=NONE", false)]
#[case("!env=NONE", true)]
#[case("parent=tini", true)]
#[case("parent=/sbin/*", true)]
#[case("parent=bash", false)]
#[case("parent_cmd=tini --*", true)]
#[case("parent_cmd=*celery*", false)]
fn surroundings_are_terms(#[case] rule: &str, #[case] expected: bool) {
    let mut process = node(&["node", "server.js"], &[]);
    process.cgroup = "/system.slice/orders.service".to_owned();
    process.container_id = Some("4f2a".repeat(16));
    let labels = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    process.container = Some(Arc::new(Container {
        labels: labels("tier", "web"),
        pod: Some(Pod {
            name: "orders-0".to_owned(),
            namespace: "shop".to_owned(),
            labels: labels("app", "orders"),
            ..Pod::default()
        }),
        ..Container::default()
    }));
    process.environment = [("TEAM", "payments")].into_iter().collect();
    process.parent = Some(Parent {
        exe: "/sbin/tini".into(),
        command_line: "tini -- node server.js".to_owned(),
    });
    assert_eq!(allows(rule, &process), expected, "{rule}");
}

#[test]
fn of_several_values_one_must_hold_and_negated_none() {
    let process = node(&["node", "server.js"], &[3000]);
    let term =
        |negated, values: [&str; 2]| Rule::of(vec![Term::any(negated, "port", values).unwrap()]);
    assert!(term(false, ["80", "3000"]).allows(&process));
    assert!(!term(false, ["80", "81"]).allows(&process));
    assert!(!term(true, ["80", "3000"]).allows(&process));
    assert!(term(true, ["80", "81"]).allows(&process));
    assert!(Rule::of(Vec::new()).allows(&process));
}

#[test]
fn what_does_not_hold_is_said_with_what_is_there() {
    let mut process = node(&["node", "server.js"], &[3000]);
    process.environment = [("TEAM", "secret")].into_iter().collect();
    let unmet = |rule: &str| rule.parse::<Rule>().unwrap().unmet(&process).join("; ");
    assert_eq!(unmet("port=3000"), "");
    assert_eq!(unmet("port=80,runtime=node"), "port=80, but it listens on 3000");
    assert_eq!(
        unmet("!cmd=*server.js*"),
        "!cmd=*server.js*, but its command line is node server.js"
    );
    assert_eq!(unmet("env=TEAM=x"), "env=TEAM=x, but TEAM has another value");
    assert_eq!(unmet("container=*"), "container=*, but it is in no container");
    assert_eq!(unmet("parent=x"), "parent=x, but its parent can't be read");
    assert_eq!(unmet("label=app"), "label=app, but it is in no container");
}

#[test]
fn of_a_container_that_nobody_describes_nothing_is_assumed() {
    let mut process = node(&["node", "server.js"], &[]);
    // In none there is no label, no pod.
    assert!(allows("!label=app=batch,!namespace=kube-system", &process));
    process.container_id = Some("4f2a".repeat(16));
    for rule in ["label=app", "!label=app=batch", "!pod=x", "namespace=*", "!namespace=x"] {
        assert!(!allows(rule, &process), "{rule}");
    }
    let unmet = "!label=app".parse::<Rule>().unwrap().unmet(&process).join("; ");
    assert_eq!(unmet, "!label=app, but no container engine has said what its container is");
    process.container = Some(Arc::default());
    assert!(allows("!label=app,!pod=*", &process) && !allows("namespace=*", &process));
    let unmet = "label=app,pod=*".parse::<Rule>().unwrap().unmet(&process).join("; ");
    assert_eq!(unmet, "label=app, but there is no label app; pod=*, but it is in no pod");
}

#[test]
fn rules_say_what_has_to_be_read_for_them() {
    let rules = |rule: &str| Rules { allow: vec![allow(rule)], ..Rules::default() };
    assert_eq!(rules("port=1").wants(), Wanted::default());
    let wanted = rules("env=TEAM=x,!parent=bash").wants();
    assert!(wanted.parent && wanted.variables.contains("TEAM"));
}

#[rstest]
#[case("runtime=node", true)]
#[case("runtime=python", false)]
#[case("!runtime=python", true)]
#[case("exe=node", true)]
#[case("exe=/usr/bin/*", true)]
#[case("exe=*/node", true)]
#[case("exe=/usr/local/bin/*", false)]
#[case("cmd=*server.js*", true)]
#[case("cmd=node /srv/*/server.{js,ts}", true)]
#[case("cmd=server.js", false)]
#[case("port=3000", true)]
#[case("port=2000-3999", true)]
#[case("port=3001-3999", false)]
#[case("!port=3001-3999", true)]
#[case("user=app", true)]
#[case("user=1000", true)]
#[case("user=root", false)]
#[case("port=3000, user=app , !cmd=*migrate*", true)]
#[case("port=3000,user=root", false)]
#[case("! port=3000", false)]
fn terms_hold_or_do_not(#[case] rule: &str, #[case] expected: bool) {
    let process = node(&["node", "/srv/orders/server.js"], &[3000, 9229]);
    assert_eq!(allows(rule, &process), expected, "{rule}");
}

#[test]
fn a_comma_in_a_pattern_is_escaped() {
    let process = node(&["node", "a,b.js"], &[]);
    assert!(allows(r"cmd=*a\,b.js,runtime=node", &process));
    assert!(!allows(r"cmd=*a\,c.js", &process));
    assert!(allows("cmd=*a[,]b.js", &process));
}

#[test]
fn a_star_matches_a_new_line() {
    let process = python(&["python", "-c", "import a\nimport b"], &[]);
    assert!(allows("cmd=*import a*import b", &process));
}

#[rstest]
#[case("", "empty term")]
#[case("port=1,,user=x", "empty term")]
#[case("3000", "no '='")]
#[case("port=0", "expected 1 to 65535")]
#[case("port=70000", "expected 1 to 65535")]
#[case("port=9-1", "expected 1 to 65535")]
#[case("port=", "expected a port")]
#[case("label=", "expected KEY or KEY=PATTERN")]
#[case("namespace=[a", "is no pattern")]
#[case("runtime=java", "expected node or python")]
#[case("name=x", "expected exe, cmd, runtime, port, user, cgroup")]
#[case("exe=[a", "exe=[a is no pattern")]
#[case("cmd=a,b", "written as \\,")]
fn errors_say_what_was_expected(#[case] rule: &str, #[case] part: &str) {
    let message = rule.parse::<Rule>().unwrap_err().to_string();
    assert!(message.contains(part), "{message}");
}

#[test]
fn the_first_rule_that_holds_is_named() {
    let process = node(&["node", "x.js"], &[80]);
    let allow = vec![allow("port=1"), allow("port=80")];
    let rules = Rules { all: true, allow, ..Rules::default() };
    assert_eq!(rules.decide(&process), Decision::Traced { by: Allowed::Rule(1) });
    let other = node(&["node", "y.js"], &[]);
    assert_eq!(rules.decide(&other), Decision::Traced { by: Allowed::All });
    let none = Rules::default().decide(&other);
    assert_eq!(none, Decision::NotTraced { reason: Reason::NoRule });
}

#[test]
fn some_processes_are_never_traced() {
    let mut process = node(&["node", "x.js"], &[80]);
    let rules =
        |own| Rules { all: true, allow: vec![allow("runtime=node")], own, ..Rules::default() };
    let refused = |process: &Process, own| match rules(own).decide(process) {
        Decision::NotTraced { reason } => Some(reason),
        Decision::Traced { .. } => None,
    };
    assert_eq!(refused(&process, vec![process.id()]), Some(Reason::Agent));
    // Another process that has an ancestor's old number.
    let earlier = ProcessId { start_time: process.start_time - 1, ..process.id() };
    assert_eq!(refused(&process, vec![earlier]), None);
    process.environment = [("OTEL_SDK_DISABLED", "True")].into_iter().collect();
    assert_eq!(refused(&process, Vec::new()), Some(Reason::SdkDisabled));
    let settings = Settings { trace_sdk_disabled: true, ..Settings::default() };
    let by_rule = Allow { settings: Arc::new(settings), ..allow("runtime=node") };
    let by_rule = Rules { all: true, allow: vec![by_rule], ..Rules::default() };
    assert_eq!(by_rule.decide(&process), Decision::Traced { by: Allowed::Rule(0) });
    process.environment = [("OTEL_SDK_DISABLED", "false")].into_iter().collect();
    assert_eq!(refused(&process, Vec::new()), None);
    process.runtime = Runtime::Other;
    assert_eq!(refused(&process, Vec::new()), Some(Reason::Runtime));
}

fn term() -> impl Strategy<Value = String> {
    let pattern = r"(\*|\?|[a-z/ =.!-]|\\,|\[ab\]|\{a,b\}){1,8}";
    let test = prop_oneof![
        pattern.prop_map(|glob| format!("exe=x{glob}y")),
        pattern.prop_map(|glob| format!("cmd=x{glob}y")),
        Just("runtime=node".to_owned()),
        Just("runtime=python".to_owned()),
        (1..=u16::MAX).prop_map(|port| format!("port={port}")),
        (1..=u16::MAX, 1..=u16::MAX)
            .prop_filter("a range", |(a, b)| a < b)
            .prop_map(|(a, b)| format!("port={a}-{b}")),
        "[a-z][a-z0-9-]{0,8}".prop_map(|name| format!("user={name}")),
        any::<u32>().prop_map(|uid| format!("user={uid}")),
    ];
    (any::<bool>(), test).prop_map(|(not, test)| if not { format!("!{test}") } else { test })
}

proptest! {
    #[test]
    fn a_rule_survives_its_text(terms in prop::collection::vec(term(), 1..5)) {
        let text = terms.join(",");
        let rule: Rule = text.parse().unwrap();
        prop_assert_eq!(rule.to_string(), text);
    }

    #[test]
    fn any_text_parses_or_says_why(text in any::<String>()) {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(&rule.to_string().parse::<Rule>().unwrap(), &rule);
        }
    }
}
