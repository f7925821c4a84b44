//! Resources, from made-up `/proc` trees.

use rstest::rstest;

use super::super::tests::{Tree, node, python};
use super::*;

fn agent() -> AgentInfo {
    AgentInfo {
        version: "0.1.0".to_owned(),
        host_name: Some("host".to_owned()),
        host_id: Some("id".to_owned()),
        boot_id: Some("boot".to_owned()),
    }
}

fn of(process: &Process) -> Resource {
    resource(&Tree::new().procfs(), process, &agent(), &Settings::default())
}

fn name(process: &Process) -> String {
    of(process).text(key::SERVICE_NAME).unwrap().to_owned()
}

fn with(mut process: Process, environment: &[(&str, &str)]) -> Process {
    process.environment = environment.iter().copied().collect();
    process
}

const PACKAGE: &str = r#"{"name": "@acme/orders", "version": "1.2.3"}"#;

fn tree_with_node(script: &str) -> (Tree, Process) {
    let tree = Tree::new();
    tree.add(42, 1, "node", b"node.js/v20.11.1\0", &["node", script]);
    let process = tree.procfs().inspect(42).unwrap();
    (tree, process)
}

#[test]
fn the_nearest_package_with_a_name_counts() {
    let (tree, process) = tree_with_node("dist/api/main.js");
    tree.file("/srv/orders/dist/package.json", r#"{"type": "module"}"#);
    tree.file("/srv/orders/package.json", PACKAGE);
    tree.file("/package.json", r#"{"name": "outer"}"#);
    let found = resource(&tree.procfs(), &process, &agent(), &Settings::default());
    assert_eq!(found.text(key::SERVICE_NAME), Some("@acme/orders"));
    assert_eq!(found.text(key::SERVICE_VERSION), Some("1.2.3"));
    assert_eq!(found.text(key::PROCESS_RUNTIME_VERSION), Some("20.11.1"));
    let named = with(process, &[("OTEL_SERVICE_NAME", "checkout")]);
    let found = resource(&tree.procfs(), &named, &agent(), &Settings::default());
    assert_eq!(found.text(key::SERVICE_NAME), Some("checkout"));
    assert_eq!(found.text(key::SERVICE_VERSION), Some("1.2.3"));
}

#[test]
fn a_dependencys_package_is_not_the_services() {
    let (tree, process) = tree_with_node("/srv/orders/node_modules/next/dist/bin/next");
    tree.file("/srv/orders/node_modules/next/package.json", r#"{"name": "next"}"#);
    tree.file("/srv/orders/package.json", PACKAGE);
    let found = resource(&tree.procfs(), &process, &agent(), &Settings::default());
    assert_eq!(found.text(key::SERVICE_NAME), Some("@acme/orders"));
}

#[test]
fn a_child_that_is_gone_is_its_parent_but_for_its_number() {
    let parent = python(&["python", "app.py"], &[8000]);
    let child = parent.child(77, 5_000_000_000);
    let stated = with(parent.clone(), &[("OTEL_RESOURCE_ATTRIBUTES", "process.pid=7")]);
    for (process, pid) in [(&parent, 77), (&stated, 7)] {
        let resource = of(process);
        let found = resource_of_child(&resource, process, &child, &agent());
        assert_ne!(found.text(key::SERVICE_INSTANCE_ID), resource.text(key::SERVICE_INSTANCE_ID));
        for (was, is) in resource.attributes.iter().zip(&found.attributes) {
            match &*is.key {
                key::PROCESS_PID if pid == 77 => assert_eq!(is.value, Value::from(77)),
                key::SERVICE_INSTANCE_ID => {}
                _ => assert_eq!(was, is),
            }
        }
    }
}

#[test]
fn a_worker_is_called_as_its_master() {
    let tree = Tree::new();
    let image = b"a\x003.11.7\0";
    tree.add(40, 1, "python3.11", image, &["python", "/venv/bin/celery", "-A", "mailer", "worker"]);
    let spawn = "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)";
    let master = tree.procfs().inspect(40).unwrap();
    let mut worker = master.clone();
    (worker.pid, worker.ppid, worker.namespace_pid) = (42, 40, 42);
    for title in [&["[celeryd: celery@h:ForkPoolWorker-1]"][..], &["python", "-c", spawn]] {
        worker.command = title.iter().map(|&word| word.to_owned()).collect();
        let (one, other) = (&master, &worker);
        let resources = [one, other]
            .map(|process| resource(&tree.procfs(), process, &agent(), &Settings::default()));
        let [one, other] = &resources;
        assert_eq!(one.text(key::SERVICE_NAME), Some("mailer"));
        assert_eq!(other.text(key::SERVICE_NAME), Some("mailer"));
        assert_ne!(one.text(key::SERVICE_INSTANCE_ID), other.text(key::SERVICE_INSTANCE_ID));
    }
    worker.ppid = 9999;
    assert_eq!(name(&worker), "unknown_service:python");
}

#[test]
fn what_the_operator_states_comes_first() {
    let base = || python(&["python", "worker.py", "--token=secret"], &[]);
    let stated = "service.name=till,service.namespace=shop,service.version=9,team=a%20b,telemetry.sdk.name=x,host.name=h";
    let found = of(&with(base(), &[("OTEL_RESOURCE_ATTRIBUTES", stated)]));
    let text = |key| found.text(key);
    assert_eq!(found.attributes[0].key, key::SERVICE_NAME);
    assert_eq!(text(key::SERVICE_NAME), Some("till"));
    assert_eq!(text(key::SERVICE_NAMESPACE), Some("shop"));
    assert_eq!(text(key::SERVICE_VERSION), Some("9"));
    assert_eq!(text("team"), Some("a b"));
    assert_eq!(text(key::HOST_NAME), Some("h"));
    assert_eq!(text(key::TELEMETRY_SDK_NAME), Some("wirespan"));
    assert_eq!(text(key::TELEMETRY_SDK_LANGUAGE), Some("python"));
    assert!(!format!("{found:?}").contains("secret"));
    let both = [("OTEL_RESOURCE_ATTRIBUTES", stated), ("OTEL_SERVICE_NAME", "till2")];
    assert_eq!(name(&with(base(), &both)), "till2");
    let broken = with(base(), &[("OTEL_RESOURCE_ATTRIBUTES", "service.name=till,x")]);
    assert_eq!(name(&broken), "worker");
}

#[test]
fn every_key_is_there_once() {
    let found = of(&with(
        node(&["node", "a.js"], &[]),
        &[("OTEL_RESOURCE_ATTRIBUTES", "process.pid=7,a=1,a=2")],
    ));
    let mut keys: Vec<&str> = found.attributes.iter().map(|a| a.key.as_ref()).collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

#[test]
fn an_instance_is_one_process_of_one_boot() {
    let process = node(&["node", "a.js"], &[]);
    let id = |process: &Process, agent: &AgentInfo| {
        Uuid::parse_str(&instance_id(process, agent)).unwrap()
    };
    let first = id(&process, &agent());
    assert_eq!(first.get_version_num(), 5);
    assert_eq!(first, id(&process.clone(), &agent()));
    let mut later = process.clone();
    later.start_time += 1;
    assert_ne!(first, id(&later, &agent()));
    let rebooted = AgentInfo { boot_id: Some("next".to_owned()), ..agent() };
    assert_ne!(first, id(&process, &rebooted));
}

#[rstest]
#[case("orders-7d9f8b6c5-x2x4k", "orders")]
#[case("shop-api-5c9f7d4b8d-zk8qp", "shop-api")]
#[case("fluent-bit-x2x4k", "fluent-bit")]
#[case("postgres-0", "postgres")]
#[case("my-web-store", "my-web-store")]
#[case("orders", "orders")]
fn pods_are_named_after_their_owner(#[case] pod: &str, #[case] expected: &str) {
    assert_eq!(pod_owner(pod), expected);
}

#[test]
fn what_runs_it_names_a_process_that_says_nothing() {
    let mut process = python(&["python", "main.py"], &[]);
    process.cwd = "/app".into();
    assert_eq!(name(&process), "unknown_service:python");
    process.systemd_unit = Some("cron".to_owned());
    assert_eq!(name(&process), "unknown_service:python");
    process.systemd_unit = Some("orders@2".to_owned());
    assert_eq!(name(&process), "orders");
    process.systemd_unit = None;
    process.container_id = Some(format!("{}abcd", "4c01db0b339c".repeat(5)));
    assert_eq!(name(&process), "4c01db0b339c");
    process.environment = [("HOSTNAME", "4c01db0b339c")].into_iter().collect();
    assert_eq!(name(&process), "4c01db0b339c");
    process.pod_uid = Some("uid".to_owned());
    process.environment = [("HOSTNAME", "orders-7d9f8b6c5-x2x4k")].into_iter().collect();
    assert_eq!(name(&process), "orders");
}

#[test]
fn this_host_has_a_boot() {
    let agent = AgentInfo::read(Path::new("/"), "1");
    assert!(agent.boot_id.is_some() && agent.host_name.is_some(), "{agent:?}");
}

#[test]
fn a_rule_names_before_anything_else_and_describes() {
    use crate::settings::Source;
    let process = with(
        node(&["node", "app.js", "--tier=gold"], &[]),
        &[("OTEL_SERVICE_NAME", "own"), ("TEAM", "payments")],
    );
    let text = |text: &str| Source::Fixed(Value::from(text.to_owned()));
    let variable = |name: &str| Source::Variable { name: name.to_owned(), default: None };
    let argument = Source::Argument { argument: "--tier".to_owned(), default: None };
    let settings = Settings {
        service: Some(text("orders")),
        attributes: vec![
            ("team".to_owned(), variable("TEAM")),
            ("none".to_owned(), variable("NONE")),
            ("tier".to_owned(), argument),
            (key::HOST_NAME.to_owned(), text("mine")),
        ],
        ..Settings::default()
    };
    let procfs = Tree::new().procfs();
    let found = resource(&procfs, &process, &agent(), &settings);
    assert_eq!(found.text(key::SERVICE_NAME), Some("orders"));
    assert_eq!((found.text("team"), found.text("tier")), (Some("payments"), Some("gold")));
    assert_eq!((found.text("none"), found.text(key::HOST_NAME)), (None, Some("mine")));
    assert_eq!(name_source(&procfs, &process, &settings), NameSource::Rule);
    // A rule whose variable is not set leaves the name to what else says it.
    let settings = Settings { service: Some(variable("NONE")), ..Settings::default() };
    let found = resource(&procfs, &process, &agent(), &settings);
    assert_eq!(found.text(key::SERVICE_NAME), Some("own"));
    assert_eq!(name_source(&procfs, &process, &settings), NameSource::ServiceName);
}

#[test]
fn what_is_redacted_is_in_no_resource() {
    let (tree, process) = tree_with_node("/app/server.js");
    let process = with(process, &[("OTEL_RESOURCE_ATTRIBUTES", "team=pay,owner=a@b.example")]);
    let redaction = crate::settings::Redaction {
        keys: crate::settings::Globs::new(vec!["host.*".to_owned()]).unwrap(),
        patterns: vec![crate::settings::pattern("[a-z]+@[a-z.]+").unwrap()],
    };
    let settings = Settings { redaction, ..Settings::default() };
    let found = resource(&tree.procfs(), &process, &agent(), &settings);
    let texts = ["host.name", "owner", "team"].map(|key| found.text(key));
    assert_eq!(texts, [Some("REDACTED"), Some("REDACTED"), Some("pay")]);
}
