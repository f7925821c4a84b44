//! Containers of real engines: what these say of them is in each span's resource from the first one on, and rules can
//! ask for it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use wirespan_tests::agent::binary;
use wirespan_tests::engines::{Engine, IMAGE, mounts};
use wirespan_tests::wait;
use wirespan_tests::workloads::ports;

use crate::common::cri::{Kubelet, PodSpec};
use crate::common::lab::{Lab, PATIENCE, Tracing};
use crate::common::spans::{Span, Value};

/// An application that answers on this port: the interpreter's own server, which no file or name describes.
fn server(lab: &Lab, port: u16) -> Vec<String> {
    let python = lab.installed.venv_program("python").display().to_string();
    let empty = lab.path().join("empty");
    fs::create_dir_all(&empty).unwrap();
    let empty = empty.display().to_string();
    // Not `-m http.server`: a module is a name.
    let code = format!(
        "import functools, http.server as h; h.HTTPServer(('127.0.0.1', {port}), \
         functools.partial(h.SimpleHTTPRequestHandler, directory={empty:?})).serve_forever()"
    );
    vec![python, "-c".to_owned(), code]
}

/// Asks once, as soon as somebody listens.
fn get(port: u16) {
    let mut stream = wait::until("it listens", PATIENCE, || {
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
    })
    .unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
}

/// An agent with this configuration, in a directory of that name.
fn agent(lab: &Lab, name: &str, config: &str) -> Tracing {
    let file = lab.path().join(format!("{name}.yaml"));
    fs::write(&file, config).unwrap();
    lab.agent(name, &[], &[&format!("--config={}", file.display())])
}

fn spans(tracing: &Tracing, count: usize) -> Vec<Span> {
    let mut last = Vec::new();
    wait::until("that many spans", PATIENCE, || {
        last = tracing.spans();
        Ok((last.len() >= count).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {last:#?}, {:#?}", tracing.status().processes));
    last
}

/// Waits until that many processes are traced.
fn traced(tracing: &Tracing, count: usize) {
    wait::until("they are traced", PATIENCE, || {
        Ok((tracing.status().processes.len() == count).then_some(()))
    })
    .unwrap();
}

fn of<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    match span.resource.get(key)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// A Docker with one container of these arguments, which runs a server.
fn docker_runs(lab: &Lab, engine: &Engine, name: &str, port: u16, more: &[&str]) -> String {
    let mounts: Vec<String> = mounts(lab.path())
        .unwrap()
        .iter()
        .map(|path| format!("--volume={0}:{0}:ro", path.display()))
        .collect();
    let server = server(lab, port);
    let mut arguments = vec!["run", "--detach", "--network=host", "--name", name];
    arguments.extend(more);
    arguments.extend(mounts.iter().map(String::as_str));
    arguments.push(IMAGE);
    arguments.extend(server.iter().map(String::as_str));
    engine.ask(&arguments).unwrap().trim().to_owned()
}

#[test]
fn dockers_containers_are_described_and_allowed_by_their_labels() {
    let lab = Lab::new();
    let engine = Engine::docker(&lab.path().join("docker")).unwrap();
    let [older, newer, other] = [(); 3].map(|()| ports::free().unwrap());
    let labels =
        ["--label=team=shop", "--label=com.docker.compose.service=orders", "--label=tier=web"];
    let ids = [
        docker_runs(&lab, &engine, "orders-1", older, &labels),
        docker_runs(&lab, &engine, "mail-1", other, &["--label=team=mail"]),
    ];
    get(older);
    let config = format!(
        "containers: {{sockets: ['docker:{}']}}\n\
         rules:\n- match: {{label: team=shop}}\n  attributes: {{tier: {{label: tier}}, region: {{label: region, \
         default: eu}}}}\n\
         - match: {{env: TRACED}}\n",
        engine.socket().display()
    );
    let tracing = agent(&lab, "agent", &config);
    traced(&tracing, 1);
    get(older);
    get(other);
    // What a rule allows anyhow is traced at once, and its first span waits for what the engine says.
    let more = ["--env=TRACED=1", "--label=com.docker.compose.service=orders"];
    let newest = docker_runs(&lab, &engine, "orders-2", newer, &more);
    traced(&tracing, 2);
    get(newer);
    let all = spans(&tracing, 2);
    assert_eq!(all.len(), 2, "{all:#?}");
    for (span, name, id) in [(&all[0], "orders-1", &ids[0]), (&all[1], "orders-2", &newest)] {
        assert_eq!(span.service, "orders", "{:#?}", span.resource);
        assert_eq!(of(span, "container.name"), Some(name));
        assert_eq!(of(span, "container.id"), Some(id.as_str()));
        assert_eq!(of(span, "container.image.name"), Some("localhost/shop/orders"));
    }
    assert_eq!((of(&all[0], "tier"), of(&all[0], "region")), (Some("web"), Some("eu")));
    let status = tracing.status();
    assert_eq!(status.check(), Vec::<String>::new());
    assert_eq!(status.processes.len(), 2);
    let asked = |words: &[&str]| {
        let mut command = Command::new(binary());
        command.args(words).arg("--control-socket").arg(tracing.agent.socket());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let told: String =
        status.processes.iter().map(|it| asked(&["explain", &it.pid.to_string()])).collect();
    for (name, id) in [("orders-1", &ids[0]), ("orders-2", &newest)] {
        assert!(told.contains(&format!("{name} ({id})")), "{told}");
    }
    // One that another label keeps out says which it has.
    let kept_out = engine.ask(&["inspect", "--format={{.State.Pid}}", &ids[1]]).unwrap();
    let why = asked(&["explain", kept_out.trim()]);
    assert!(why.contains("label=team=shop, but team is mail"), "{why}");
}

#[test]
fn an_engine_that_does_not_answer_holds_nothing_up() {
    let lab = Lab::new();
    let engine = Engine::docker(&lab.path().join("docker")).unwrap();
    let hung = lab.path().join("hung.sock");
    // Nobody accepts there.
    let _listener = UnixListener::bind(&hung).unwrap();
    let port = ports::free().unwrap();
    let config = format!(
        "containers: {{sockets: ['docker:{0}', 'cri:{0}']}}\n\
         rules:\n- match: {{port: {port}}}\n  attributes: {{team: {{label: team, default: none}}}}\n",
        hung.display()
    );
    let tracing = agent(&lab, "agent", &config);
    let id = docker_runs(&lab, &engine, "orders-1", port, &["--label=team=shop"]);
    traced(&tracing, 1);
    get(port);
    let all = spans(&tracing, 1);
    assert_eq!(of(&all[0], "container.id"), Some(id.as_str()));
    assert_eq!((of(&all[0], "container.name"), of(&all[0], "team")), (None, Some("none")));
    tracing.quiet();
    let mut doctor = Command::new(binary());
    let file = lab.path().join("agent.yaml");
    // As in an image that has no authorities for TLS.
    doctor.env("SSL_CERT_FILE", "/none").env("SSL_CERT_DIR", "/none");
    let doctor = doctor.arg("doctor").arg("--config").arg(&file).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    for part in [
        format!("warn  container engine docker:{}", hung.display()),
        "gives no answer within 2 s".to_owned(),
        "of 1 allowed processes no engine says what their containers are".to_owned(),
    ] {
        let lines: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(lines.contains(&part), "{part:?} is not in\n{said}");
    }
}

/// A pod's uid, by which its cgroup is called.
const UID: &str = "5e1f0b0a-3c1d-4f5e-9a6b-7c8d9e0f1a2b";

fn pod<'a>(
    name: &'a str,
    namespace: &'a str,
    command: &'a [String],
    mounts: &'a [PathBuf],
    logs: &'a Path,
) -> PodSpec<'a> {
    PodSpec {
        name,
        namespace,
        uid: UID,
        labels: &[("pod-template-hash", "7d9f8b6c5"), ("app.kubernetes.io/version", "1.2.3")],
        annotations: &[],
        container: "web",
        image: IMAGE,
        restarts: 3,
        command,
        mounts,
        logs,
    }
}

#[test]
fn pods_are_described_and_allowed_by_their_namespace() {
    let lab = Lab::new();
    let engine = Engine::containerd(&lab.path().join("containerd")).unwrap();
    let kubelet = Kubelet::new(engine.socket());
    let (mounts, logs) = (mounts(lab.path()).unwrap(), lab.path().join("pods"));
    fs::create_dir_all(&logs).unwrap();
    let config = format!(
        "containers: {{sockets: ['cri:{}']}}\n\
         rules:\n- match: {{namespace: 'shop*', not: {{pod: '*-canary-*'}}}}\n",
        engine.socket().display()
    );
    let tracing = agent(&lab, "agent", &config);
    let port = ports::free().unwrap();
    let command = server(&lab, port);
    let running = kubelet.run(&pod("orders-7d9f8b6c5-x2x4k", "shop", &command, &mounts, &logs));
    traced(&tracing, 1);
    get(port);
    let all = spans(&tracing, 1);
    let span = &all[0];
    assert_eq!(span.service, "orders", "{:#?}", span.resource);
    for (key, value) in [
        ("k8s.pod.name", "orders-7d9f8b6c5-x2x4k"),
        ("k8s.pod.uid", UID),
        ("k8s.namespace.name", "shop"),
        ("k8s.container.name", "web"),
        ("k8s.deployment.name", "orders"),
        ("k8s.replicaset.name", "orders-7d9f8b6c5"),
        ("service.namespace", "shop"),
        ("service.version", "1.2.3"),
        ("container.id", &running.container),
        ("container.image.name", "localhost/shop/orders"),
    ] {
        assert_eq!(of(span, key), Some(value), "{key} of {:#?}", span.resource);
    }
    assert_eq!(span.resource.get("k8s.container.restart_count"), Some(&Value::Int(3)));

    // Two that no rule allows, and one whose annotations say what it is.
    let [elsewhere, canary, annotated] = [(); 3].map(|()| ports::free().unwrap());
    let commands = [elsewhere, canary, annotated].map(|port| server(&lab, port));
    let _others = [
        kubelet.run(&pod("orders-0", "mail", &commands[0], &mounts, &logs)),
        kubelet.run(&pod("orders-canary-0", "shop", &commands[1], &mounts, &logs)),
    ];
    let _annotated = kubelet.run(&PodSpec {
        annotations: &[
            ("resource.opentelemetry.io/service.name", "checkout"),
            ("resource.opentelemetry.io/team", "payments"),
            ("other/team", "none"),
        ],
        ..pod("pay-0", "shop-eu", &commands[2], &mounts, &logs)
    });
    traced(&tracing, 2);
    for port in [elsewhere, canary, annotated] {
        get(port);
    }
    let all = spans(&tracing, 2);
    // What is not traced makes no span by the time that what came after it has.
    assert_eq!(all.len(), 2, "{all:#?}");
    assert_eq!((all[1].service.as_str(), of(&all[1], "team")), ("checkout", Some("payments")));
    assert_eq!(of(&all[1], "k8s.deployment.name"), None);
}
