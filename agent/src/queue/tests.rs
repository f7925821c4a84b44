//! What is recognised, on hand-written commands in the libraries' form: claims, settlements, transactions, and what is
//! nobody's work.

use wirespan_protocols::exchange::{Direction, Parser as _};
use wirespan_protocols::redis::{Connection, Event, PushKind};

use super::*;
use crate::connection::Mark;

/// A connection that is told what is sent and answered, and writes down what is told of queues.
struct Client {
    connection: Connection<Mark>,
    queues: Recognizer,
    offsets: [u64; 2],
    told: Vec<String>,
}

impl Client {
    fn new(rules: &[Arc<Rule>]) -> Self {
        Self {
            connection: Connection::new(true).asking(asked(rules)),
            queues: Recognizer::new(rules.into(), Arc::default()),
            offsets: [0; 2],
            told: Vec::new(),
        }
    }

    fn feed(&mut self, direction: Direction, bytes: &str) -> &mut Self {
        let Self { connection, queues, offsets, told } = self;
        let offset = &mut offsets[direction as usize];
        connection.on_bytes(
            direction,
            *offset,
            bytes.as_bytes(),
            0,
            &Mark::default(),
            &mut |event| {
                let note = &mut |it| told.push(tell(it));
                match event {
                    Event::Request { exchange, first, request, values, .. } => {
                        let part = queues.asked(exchange, &first, &request, &values, note);
                        if let Some(work) = part.submits {
                            told.push(format!("{exchange} sends {}", show(&work)));
                        }
                        if part.internal {
                            told.push(format!("{exchange} internal"));
                        }
                    }
                    Event::End { exchange, last, end, values } => {
                        let held = queues.answered(exchange, &last, &end, &values, note);
                        told.extend(held.then(|| format!("{exchange} held")));
                    }
                    Event::Push { kind: PushKind::Message, last, values, .. } => {
                        queues.pushed(&last, &values, note);
                    }
                    Event::Abandoned { exchange, .. } => queues.abandoned(exchange, note),
                    _ => {}
                }
            },
        );
        *offset += bytes.len() as u64;
        self
    }

    /// A command of words that `|` parts.
    fn sends(&mut self, command: &str) -> &mut Self {
        self.feed(Direction::Requests, &wire(command))
    }

    /// A reply in lines that blanks part; `'text` is a bulk string.
    fn gets(&mut self, reply: &str) -> &mut Self {
        let mut wire = String::new();
        for line in reply.split(' ') {
            match line.strip_prefix('\'') {
                Some(text) => wire += &format!("${}\r\n{text}\r\n", text.len()),
                None => wire += &format!("{line}\r\n"),
            }
        }
        self.feed(Direction::Responses, &wire)
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

fn wire(command: &str) -> String {
    let words: Vec<&str> = command.split('|').collect();
    let mut wire = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| wire += &format!("${}\r\n{word}\r\n", word.len()));
    wire
}

fn show(work: &Work) -> String {
    let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or("-").to_owned();
    let attempt = work.attempt.map_or(String::new(), |attempt| format!(" try {attempt}"));
    let (id, name) = (text(&work.id), text(&work.name));
    format!("{:?} {} {id} {name} x{}{attempt}", work.system, work.queue, work.count)
}

fn tell(told: Told) -> String {
    match told {
        Told::Notice(exchange, _, notice) => match notice {
            Notice::Submitted { id, .. } => format!("{exchange} has id {}", id.unwrap_or_default()),
            Notice::Taken(work) => format!("{exchange} takes {}", show(&work)),
            Notice::Named { name, .. } => format!("{exchange} names {name}"),
            Notice::Settled(_, fate) => format!("{exchange} settles {fate:?}"),
            Notice::Asked(lists) => format!("{exchange} asks {}", lists.len()),
            Notice::Internal => format!("{exchange} internal"),
        },
        Told::Over(exchange, ..) => format!("{exchange} over"),
        Told::Abandoned(exchange) => format!("{exchange} abandoned"),
    }
}

#[test]
fn every_command_that_is_asked_for_is_known_to_the_parser() {
    for (name, pattern) in ASKED {
        assert!(redis::Asked::new().command(name, pattern).is_ok(), "{name}");
    }
    assert!(ASKED.is_sorted());
}

#[test]
fn lists_are_pushed_to_and_popped_from() {
    let mut client = Client::new(&[]);
    client.sends("LPUSH|q|a|b").gets(":2").sends("BRPOP|q|r|5").gets("*2 'q 'a");
    assert_eq!(
        client.told(),
        ["0 sends Redis q - - x2", "1 asks 2", "1 takes Redis q - - x1", "1 internal"]
    );
    client.sends("BRPOP|q|5").gets("*-1").sends("LPOP|q|2").gets("*2 'a 'b");
    assert_eq!(client.told(), ["2 asks 1", "3 asks 1", "3 takes Redis q - - x2", "3 internal"]);
}

#[test]
fn an_entry_of_a_stream_is_settled_by_its_id() {
    let mut client = Client::new(&[]);
    client.sends("XADD|s|*|f|v").gets("'1-0");
    assert_eq!(client.told(), ["0 sends Redis s - - x1", "0 has id 1-0"]);
    client.sends("XREADGROUP|GROUP|g|c|STREAMS|s|>").gets("*1 *2 's *1 *2 '1-0 *2 'f 'v");
    client.sends("XACK|s|g|1-0").gets(":1");
    let told = client.told();
    assert_eq!(
        told,
        ["1 asks 0", "1 takes Redis s 1-0 - x1", "1 internal", "2 internal", "2 settles Done"]
    );
    // As RESP3 says it; several of one stream are one job's.
    client.sends("XREAD|STREAMS|s|0").gets("%1 's *2 *2 '1-0 *2 'f 'v *2 '2-0 *2 'f 'v");
    assert_eq!(client.told()[1], "3 takes Redis s - - x2");
}

#[test]
fn what_was_added_within_a_transaction_is_known_by_the_reply_of_exec() {
    let add = "EVALSHA|x|6|bull:m:wait|bull:m:paused|bull:m:meta-paused|bull:m:id|bull:m:delayed|\
               bull:m:priority|bull:m:||greets|{}";
    let mut client = Client::new(&[]);
    client.sends("MULTI").sends(add).sends(add).sends("EXEC");
    client.gets("+OK").gets("+QUEUED").gets("+QUEUED");
    let told = client.told();
    assert_eq!(
        told,
        [
            "1 sends Bull m - greets x1",
            "2 sends Bull m - greets x1",
            "0 internal",
            "1 held",
            "2 held"
        ]
    );
    client.gets("*2 '7 '8");
    let told = client.told();
    assert_eq!(told, ["1 has id 7", "1 over", "2 has id 8", "2 over", "3 internal"]);
}

#[test]
fn a_transaction_that_fails_adds_nothing() {
    let mut client = Client::new(&[]);
    client.sends("MULTI").sends("XADD|s|*|f|v").sends("EXEC");
    client.gets("+OK").gets("+QUEUED").gets("-EXECABORT");
    assert_eq!(client.told(), ["1 sends Redis s - - x1", "0 internal", "1 held", "1 over"]);
    client.sends("MULTI").sends("XADD|s|*|f|v").sends("EXEC").gets("+OK").gets("+QUEUED");
    assert_eq!(client.told(), ["4 sends Redis s - - x1", "3 internal", "4 held"]);
    // The reply is not what was asked for: nobody will know.
    client.gets(":1");
    assert_eq!(client.told(), ["4 abandoned"]);
}

#[test]
fn jobs_of_bull_end_by_the_keys_of_scripts() {
    let take = "EVALSHA|x|4|bull:m:wait|bull:m:active|bull:m:meta|bull:m:marker|bull:m:|1|x";
    let end =
        |target| format!("EVALSHA|y|4|bull:m:active|bull:m:{target}|bull:m:7|bull:m:meta|7|1|x|y");
    let job = "*4 *6 'name 'greets 'data '{} 'ats '2 '7 :0 :0";
    let mut client = Client::new(&[]);
    client.sends(take).gets(job).sends(&end("completed")).gets(job);
    let taken = "takes BullMq m 7 greets x1 try 2";
    assert_eq!(
        client.told(),
        [
            "0 internal".to_owned(),
            format!("0 {taken}"),
            "0 internal".to_owned(),
            "1 internal".to_owned(),
            "1 settles Done".to_owned(),
            format!("1 {taken}"),
            "1 internal".to_owned(),
        ]
    );
    for (target, retried) in [("failed", false), ("delayed", true)] {
        client.sends(&end(target)).gets(":0");
        let fate = Fate::Failed { kind: None, retried };
        assert!(client.told()[1].ends_with(&format!("settles {fate:?}")), "{target}");
    }
    // Refused, it settles nothing.
    client.sends(&end("completed")).gets("-ERR");
    assert_eq!(client.told(), ["4 internal"]);
}

#[test]
fn celerys_messages_say_what_they_are() {
    let message = r#"{"body":"W10=","headers":{"task":"greets","id":"i","retries":1},"properties":{"delivery_tag":"t"}}"#;
    let mut client = Client::new(&[]);
    client.sends(&format!("LPUSH|celery|{message}")).gets(":1");
    client.sends("BRPOP|celery|1").gets(&format!("*2 'celery '{message}"));
    let told = client.told();
    assert_eq!(told[0], "0 sends Celery celery i greets x1 try 2");
    assert_eq!(told[2], "1 takes Celery celery i greets x1 try 2");
    for (status, fate) in [
        (r#"{"status":"SUCCESS","result":{"exc_type":"no"}}"#, Some(Fate::Done)),
        (r#"{"status":"STARTED"}"#, Some(Fate::Begun)),
        (r#"{"status":"PROGRESS"}"#, None),
        (
            r#"{"status":"FAILURE","result":{"exc_type":"ValueError"}}"#,
            Some(Fate::Failed { kind: Some("ValueError".into()), retried: false }),
        ),
    ] {
        client.sends(&format!("SETEX|celery-task-meta-i|9|{status}")).gets("+OK");
        let settled = client.told().get(1).cloned();
        let wanted = fate.map(|fate| format!("settles {fate:?}"));
        assert_eq!(settled.is_some(), wanted.is_some(), "{status}");
        assert!(wanted.is_none_or(|wanted| settled.unwrap().ends_with(&wanted)), "{status}");
    }
    // What isn't a task is an element of a list.
    client.sends(r#"LPUSH|celery|{"headers":{}}"#).gets(":1");
    assert_eq!(client.told(), ["6 sends Redis celery - - x1"]);
}

#[test]
fn jobs_of_rq_are_named_by_their_hash() {
    let mut client = Client::new(&[]);
    client.sends("HSET|rq:job:i|description|m.greets('secret')|status|queued").gets(":2");
    client.sends("RPUSH|rq:queue:d|i").gets(":1");
    client.sends("BLMOVE|rq:queue:d|rq:queue:d:intermediate|LEFT|RIGHT|5").gets("'i");
    client.sends("HGETALL|rq:job:i").gets("*2 'description 'm.greets('secret')");
    client.sends("HSET|rq:job:i|status|started").gets(":0");
    client.sends("HSET|rq:job:i|status|failed").gets(":0");
    let told = client.told();
    let failed = Fate::Failed { kind: None, retried: false };
    for wanted in [
        "1 sends Rq d i m.greets x1",
        "2 takes Rq d i - x1",
        "3 names m.greets",
        "4 settles Begun",
        &format!("5 settles {failed:?}"),
    ] {
        assert!(told.iter().any(|told| told == wanted), "{wanted} in {told:?}");
    }
    assert!(!told.iter().any(|told| told.contains("secret")));
}

#[test]
fn a_rule_says_where_the_id_is() {
    let step = |command: &str, key: &str, id| Step { command: command.into(), key: key.into(), id };
    let rule = |submit, claim, done| {
        let context = Some("trace".into());
        [Arc::new(Rule { name: "own".into(), submit, claim, done, context })]
    };
    let mut client = Client::new(&rule(
        step("HMSET", "job:*", Where::Key),
        step("HGETALL", "job:*", Where::Key),
        Some(step("DEL", "job:*", Where::Key)),
    ));
    client.sends("HMSET|job:7|a|b").gets("+OK").sends("HGETALL|job:7").gets("*2 'a 'b");
    client.sends("DEL|job:7").gets(":1").sends("HGETALL|job:8").gets("*0");
    assert_eq!(
        client.told(),
        [
            "0 sends Redis own 7 - x1",
            "1 asks 0",
            "1 takes Redis own 7 - x1",
            "1 internal",
            "2 internal",
            "2 settles Done",
            "3 asks 0",
        ]
    );
    let mut client = Client::new(&rule(
        step("ZADD", "jobs", Where::Value),
        step("ZPOPMAX", "jobs", Where::Value),
        None,
    ));
    client.sends("ZADD|jobs|5|a7").gets(":1").sends("ZPOPMAX|jobs").gets("*2 'a7 '5");
    let told = client.told();
    assert_eq!((&*told[0], &*told[2]), ("0 sends Redis own a7 - x1", "1 takes Redis own a7 - x1"));
}

#[test]
fn a_context_is_found_where_libraries_put_it() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let found = TraceParent::parse(parent.as_bytes());
    assert!(found.is_some());
    for json in [
        format!(r#"{{"traceparent":"{parent}"}}"#),
        format!(r#"{{"a":[1,{{}}],"headers":{{"traceparent":"{parent}","b":2}}}}"#),
    ] {
        assert_eq!(context_in(json.as_bytes()), found, "{json}");
    }
    assert_eq!(context_in(b"{\"a\":\"\\\"traceparent\\\"\"}"), None);
}

#[test]
fn jobs_end_once_and_by_whatever_names_them() {
    use crate::call::ProcessId;
    let place = Place::of(9, None, None);
    let identity = |name: &str| Identity::new(name, Scope::Anywhere);
    let key = |name: &str| place.key(identity(name)).unwrap();
    let mut jobs = Jobs::default();
    let take = |jobs: &mut Jobs, system, names: &[&str], until| {
        let mut work = Work::new(system, "q", "process");
        work.handles = names.iter().map(|name| identity(name)).collect();
        (work.id, work.until) = ((names.len() < 2).then(|| "i".into()), until);
        let number = jobs.next_number();
        assert_eq!(jobs.taken(number, ProcessId(1), 9, &place, &work, 10), None);
        number
    };
    let over = |job, fate, at_ns| Some(Over { connection: 9, job, fate, at_ns });
    // Tries at one task end in the order in which they were taken.
    let first = take(&mut jobs, System::Rq, &["a"], Until::Settled);
    let second = take(&mut jobs, System::Rq, &["a"], Until::Settled);
    assert_eq!(jobs.settled(key("a"), Fate::Done, 20), over(first, Fate::Done, 20));
    assert_eq!(jobs.settled(key("a"), Fate::Done, 30), over(second, Fate::Done, 30));
    assert_eq!(jobs.settled(key("a"), Fate::Done, 40), None);
    // A batch is over when all of it is.
    let batch = take(&mut jobs, System::Redis, &["b", "c"], Until::Settled);
    assert_eq!(jobs.settled(key("c"), Fate::Done, 20), None);
    assert_eq!(jobs.settled(key("b"), Fate::Done, 21), over(batch, Fate::Done, 21));
    // Asking again ends what nobody settles.
    let popped = take(&mut jobs, System::Redis, &["d"], Until::Next);
    let mut ended = Vec::new();
    jobs.asked(8, 20, &mut |over| ended.push(over));
    assert!(ended.is_empty());
    jobs.asked(9, 20, &mut |over| ended.push(over));
    assert_eq!(ended.pop(), over(popped, Fate::Untold, 20));
    // An acknowledgement is the end only where no result comes.
    let early = take(&mut jobs, System::Celery, &["e"], Until::Settled);
    assert_eq!(jobs.settled(key("e"), Fate::Acknowledged, 20), None);
    jobs.tick(3_000_000_000, &mut |over| ended.push(over));
    assert_eq!(ended.pop(), over(early, Fate::Acknowledged, 20));
    assert_eq!(jobs.settled(key("e"), Fate::Done, 4_000_000_000), None);
    let kept = take(&mut jobs, System::Celery, &["f"], Until::Settled);
    jobs.settled(key("f"), Fate::Acknowledged, 20);
    jobs.tick(9_000_000_000, &mut |over| ended.push(over));
    assert!(ended.is_empty(), "its queue keeps results");
    assert_eq!(jobs.settled(key("f"), Fate::Done, 30), over(kept, Fate::Done, 30));
}

/// A connection that was met in its middle has no known database.
#[test]
fn a_job_of_an_unknown_place_ends_on_its_connection_and_on_no_other() {
    use crate::call::ProcessId;
    let (here, there) = (Place::of(1, None, None), Place::of(2, None, None));
    let identity = Identity::new("a", Scope::Database);
    assert_eq!(here.key(identity), None, "nothing is joined by it");
    let mut jobs = Jobs::default();
    let mut work = Work::new(System::BullMq, "q", "process");
    (work.handles, work.id, work.until) = (vec![identity], Some("a".into()), Until::Settled);
    let taken = |jobs: &mut Jobs, connection, place: &Place| {
        let number = jobs.next_number();
        jobs.taken(number, ProcessId(1), connection, place, &work, 10);
        number
    };
    let first = taken(&mut jobs, 1, &here);
    let second = taken(&mut jobs, 2, &there);
    for (place, connection, job) in [(there, 2, second), (here, 1, first)] {
        let key = place.handle(identity).unwrap();
        let over = Over { connection, job, fate: Fate::Done, at_ns: 20 };
        assert_eq!(jobs.settled(key, Fate::Done, 20), Some(over));
    }
    assert_ne!(here, there, "nor is a handler's job one for the other");
}

#[test]
fn what_is_nobodys_work_costs_no_memory() {
    let mut client = Client::new(&[]);
    let commands =
        ["SET|k|v", "DEL|k|l", "EVAL|return 1|1|k|v", "MULTI", "DEL|k", "HSET|k|f|v", "EXEC"];
    let replies = "+OK\r\n:1\r\n:1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n";
    let commands = commands.map(wire).concat();
    let round = |client: &mut Client| {
        client.feed(Direction::Requests, &commands).feed(Direction::Responses, replies);
    };
    // Buffers have grown to what is needed by then.
    (0..3).for_each(|_| round(&mut client));
    let allocated = allocation_counter::measure(|| round(&mut client));
    assert_eq!(allocated.count_total, 0);
    assert_eq!(client.told, [""; 0]);
}
