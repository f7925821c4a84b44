//! Node.js: a thousand times something is evaluated in a process (the assist, and what undoes it), on every version and
//! in clusters, and nobody is harmed.

use crate::common;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};

use common::lab::{Lab, PATIENCE, gets, load, rule};
use wirespan_tests::wait;
use wirespan_tests::workloads::Service;

use crate::node_assist::INSPECTOR;
use crate::node_parents::exact;

const VERSIONS: [&str; 4] = ["18", "20", "22", "24"];

/// Workers of each version, beside their primary.
const WORKERS: usize = 4;

const INJECTIONS: usize = 1_000;

/// Answers with what is computed of the number that it is asked for, after a timer and the thread pool.
const APPLICATION: &str = r"
const cluster = require('node:cluster');
const crypto = require('node:crypto');
if (cluster.isPrimary) {
  for (let i = 0; i < Number(process.env.WORKERS); i++) cluster.fork();
} else {
  require('node:http').createServer((req, res) => {
    const number = req.url.split('?')[0].split('/').pop();
    setTimeout(() => crypto.pbkdf2(number, 'salt', 1, 8, 'sha1', (error, key) => {
      res.end(number + ':' + key.toString('hex'));
    }), 1);
  }).listen(Number(process.env.PORT), '127.0.0.1');
}
";

fn answers(service: &Service) -> Vec<String> {
    let outcomes = load(service, 8, &gets("/answers", 1, 40));
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
    outcomes
        .iter()
        .map(|outcome| text(&outcome.body))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn is_closed() -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, INSPECTOR)).is_err()
}

#[test]
#[ignore = "long: starts and ends the agent some thirty times, with versions of Node.js that are large to install"]
fn a_thousand_injections_harm_nobody() {
    let lab = Lab::new();
    let installed = lab.installed.for_accuracy_of_node().unwrap();
    let services: Vec<Service> = VERSIONS
        .iter()
        .map(|version| {
            let spec = installed.text(&format!("thousand-{version}"), APPLICATION).unwrap();
            let spec = spec.program(&installed.node_program(version));
            spec.env("WORKERS", WORKERS.to_string()).start(lab.path()).unwrap()
        })
        .collect();
    let processes = || -> Vec<Vec<u32>> {
        let sorted = |service: &Service| {
            let mut pids = service.pids().unwrap();
            pids.sort_unstable();
            pids
        };
        services.iter().map(sorted).collect()
    };
    let all = VERSIONS.len() * (WORKERS + 1);
    wait::until("all workers are there", PATIENCE, || {
        Ok((processes().iter().map(Vec::len).sum::<usize>() == all).then_some(()))
    })
    .unwrap();
    let before = (processes(), services.iter().map(answers).collect::<Vec<_>>());
    let opened = || -> usize {
        let printed =
            |service: &Service| service.output().unwrap().matches("Debugger listening on").count();
        services.iter().map(printed).sum()
    };
    let mut round = 0;
    while opened() < INJECTIONS {
        assert!(opened() >= round * all / 2, "{} in {round} rounds", opened());
        let mut rules: Vec<String> = services.iter().map(rule).collect();
        rules.extend(["cmd=*thousand-*".to_owned(), "cmd=*process.exit(7)*".to_owned()]);
        let mut tracing = lab.agent(&format!("agent-{round}"), &rules, &[]);
        // Some that end at any moment of it.
        let lives = (0..4).map(|i| {
            let script = format!("setTimeout(() => process.exit(7), {})", 950 + 60 * i + round);
            let program = installed.node_program(VERSIONS[i % VERSIONS.len()]);
            let mut command = Command::new(program);
            command.args(["-e", &script]).stderr(Stdio::null());
            command.spawn().unwrap()
        });
        let lives: Vec<_> = lives.collect();
        exact(&tracing, all);
        let now = (processes(), services.iter().map(answers).collect::<Vec<_>>());
        assert_eq!(before, now, "round {round}");
        for mut life in lives {
            assert_eq!(life.wait().unwrap().code(), Some(7), "round {round}");
        }
        if round % 10 == 9 {
            // What it left, the next one takes over.
            tracing.agent.kill().unwrap();
        } else {
            tracing.agent.terminate(PATIENCE).unwrap();
        }
        wait::until("the port refuses", PATIENCE, || Ok(is_closed().then_some(()))).unwrap();
        round += 1;
    }
    let now = (processes(), services.iter().map(answers).collect::<Vec<_>>());
    assert_eq!(before, now);
    eprintln!("{} inspectors were opened and closed in {round} rounds", opened());
}
