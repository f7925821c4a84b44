//! A simulated client and server with ground truth: random requests at any time, answers in their order,
//! cut anywhere, with holes anywhere, quiet moments in between. Every text says how many rows its answer
//! has.

use proptest::prelude::*;

use super::*;

/// How something is asked.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Simple,
    /// `Parse`, `Bind`, `Describe`, `Execute`.
    Unnamed,
    /// The same with a name, for later.
    Named,
    /// As asyncpg and postgres.js do it: `Parse`, `Describe`, `Flush`, and the rest when that is answered.
    Flushed,
    /// `Bind` and `Execute` of what was named before, if anything was.
    Again,
    Empty,
    /// `Parse` and `Describe` alone.
    PrepareOnly,
    /// `COPY` from the client.
    Copy,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    kind: Kind,
    fails: bool,
    rows: usize,
    value_bytes: usize,
    notice: bool,
    /// Its `Sync` is the next request's too, if both are of the extended protocol.
    shares_sync: bool,
}

impl Plan {
    fn is_extended(&self) -> bool {
        !matches!(self.kind, Kind::Simple | Kind::Empty | Kind::Copy | Kind::Flushed)
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(Plan),
    /// The server answers so many of what is open.
    Answer(usize),
    /// It answers everything, and nothing happens for a while.
    Quiet,
    /// Nothing happens for a while, though something may be open: once in a run.
    Stall,
}

/// What passes, in causal order.
#[derive(Clone, Debug)]
enum Passed {
    Bytes(Direction, Vec<u8>),
    Quiet,
}

const ERROR: &str = "division by zero";

/// The text of request `id`, which has `id` rows or affects as many.
fn text(id: usize) -> String {
    format!("UPDATE t /* n={id} */ SET x = '{}'", "secret".repeat(id % 30))
}

/// The client's and the server's side of a connection.
#[derive(Default)]
struct Play {
    passed: Vec<Passed>,
    /// Answers to come, each with its `ReadyForQuery` or to a `Flush`.
    owed: Vec<Vec<u8>>,
    /// Requests and answers of the extended protocol whose `Sync` is to come.
    open: (Vec<u8>, Vec<u8>),
    failed: bool,
    named: Vec<usize>,
    /// The client sends only when everything is answered.
    turns: bool,
}

impl Play {
    fn send(&mut self, asked: Vec<u8>, answer: Vec<u8>) {
        self.passed.push(Passed::Bytes(Requests, asked));
        self.owed.push(answer);
    }

    fn answer(&mut self, count: usize) {
        let answers: Vec<u8> = self.owed.drain(..count.min(self.owed.len())).flatten().collect();
        if !answers.is_empty() {
            self.passed.push(Passed::Bytes(Responses, answers));
        }
    }

    fn sync(&mut self) {
        let (mut asked, mut answer) = std::mem::take(&mut self.open);
        if !asked.is_empty() {
            asked.extend(ask::sync());
            answer.extend(tell::ready('I'));
            self.send(asked, answer);
        }
        self.failed = false;
    }

    fn answer_all(&mut self) {
        self.answer(usize::MAX);
    }

    /// Only drivers that take turns describe portals.
    fn describe(&self) -> Vec<u8> {
        if self.turns { ask::describe('P', "") } else { Vec::new() }
    }

    fn described(&self) -> Vec<u8> {
        if self.turns { tell::columns() } else { Vec::new() }
    }

    fn result(&self, plan: &Plan, id: usize) -> Vec<u8> {
        if plan.fails {
            return tell::error("22012", ERROR);
        }
        [tell::row(plan.value_bytes).repeat(plan.rows), tell::tag(&format!("UPDATE {id}"))].concat()
    }

    fn plan(&mut self, plan: &Plan, id: usize) {
        let text = text(id);
        let notice = if plan.notice { tell::notice() } else { Vec::new() };
        let size = plan.value_bytes;
        if !plan.is_extended() {
            self.sync();
        }
        let ready = tell::ready('I');
        let (asked, answer) = match plan.kind {
            Kind::Simple => {
                let columns = if plan.rows > 0 { tell::columns() } else { Vec::new() };
                let answer = [notice, columns, self.result(plan, id), ready].concat();
                return self.send(ask::query(&text), answer);
            }
            Kind::Empty => {
                return self.send(ask::query(";"), [tell::done('I'), ready].concat());
            }
            Kind::Copy => {
                let text = text.replace("UPDATE", "COPY");
                let (asked, begun) = (ask::query(&text), message(b'G', [0; 3]));
                let data = [message(b'd', vec![b'c'; size]), message(b'c', "")].concat();
                let answer = [self.result(&Plan { rows: 0, ..*plan }, id), ready].concat();
                if size.is_multiple_of(2) {
                    // As asyncpg does it: without waiting for the server to say that it reads.
                    return self.send([asked, data].concat(), [begun, answer].concat());
                }
                self.send(asked, begun);
                self.answer_all();
                return self.send(data, answer);
            }
            Kind::Flushed => {
                let name = format!("f{id}");
                let asked = [ask::parse(&name, &text), ask::describe('S', &name), ask::flush()];
                let answer = [tell::done('1'), message(b't', [0; 2]), tell::done('n')];
                self.send(asked.concat(), answer.concat());
                self.answer_all();
                let asked = [ask::bind("", &name, size), ask::execute("", 0), ask::sync()];
                let answer = [tell::done('2'), self.result(plan, id), ready];
                return self.send(asked.concat(), answer.concat());
            }
            Kind::Unnamed | Kind::Named => {
                let name =
                    if matches!(plan.kind, Kind::Named) { format!("s{id}") } else { String::new() };
                if !name.is_empty() && !self.failed {
                    self.named.push(id);
                }
                let asked = [
                    ask::parse(&name, &text),
                    ask::bind("", &name, size),
                    self.describe(),
                    ask::execute("", 0),
                ];
                let prepared =
                    [tell::done('1'), notice, tell::done('2'), self.described()].concat();
                (asked.concat(), [prepared, self.result(plan, id)].concat())
            }
            Kind::Again => {
                let Some(&id) = self.named.get(id % self.named.len().max(1)) else { return };
                let name = format!("s{id}");
                let asked = [ask::bind("", &name, size), self.describe(), ask::execute("", 0)];
                let answer = [tell::done('2'), self.described(), self.result(plan, id)];
                (asked.concat(), answer.concat())
            }
            Kind::PrepareOnly => {
                let name = format!("p{id}");
                let asked = [ask::parse(&name, &text), ask::describe('S', &name)].concat();
                let answer = if plan.fails {
                    tell::error("22012", ERROR)
                } else {
                    [tell::done('1'), message(b't', [0; 2]), tell::done('n')].concat()
                };
                (asked, answer)
            }
        };
        self.open.0.extend(asked);
        if !self.failed {
            self.open.1.extend(answer);
        }
        self.failed |= plan.fails;
        if !plan.shares_sync {
            self.sync();
        }
    }
}

/// Plays the steps; `turns`: the client sends only when everything is answered.
fn play(steps: &[Step], turns: bool) -> Vec<Passed> {
    let mut play = Play { turns, ..Play::default() };
    let mut stalled = false;
    for (id, step) in steps.iter().enumerate() {
        match step {
            Step::Send(plan) => {
                if turns {
                    play.answer_all();
                }
                let plan = Plan { shares_sync: plan.shares_sync && !turns, ..*plan };
                play.plan(&plan, id + 1);
            }
            Step::Answer(count) => play.answer(*count),
            Step::Quiet => {
                play.sync();
                play.answer_all();
                play.passed.push(Passed::Quiet);
            }
            Step::Stall if !stalled => {
                stalled = true;
                play.passed.push(Passed::Quiet);
            }
            Step::Stall => {}
        }
    }
    play.sync();
    play.answer_all();
    play.passed
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let kind = prop::sample::select(vec![
        Kind::Simple,
        Kind::Unnamed,
        Kind::Named,
        Kind::Flushed,
        Kind::Again,
        Kind::Empty,
        Kind::PrepareOnly,
        Kind::Copy,
    ]);
    (
        kind,
        prop::bool::weighted(0.1),
        0usize..4,
        prop_oneof![4 => 0usize..60, 1 => 0usize..2000],
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(kind, fails, rows, value_bytes, notice, shares_sync)| Plan {
            kind,
            fails,
            rows,
            value_bytes,
            notice,
            shares_sync,
        })
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => any_plan().prop_map(Step::Send),
        8 => (1usize..4).prop_map(Step::Answer),
        2 => Just(Step::Quiet),
        1 => Just(Step::Stall),
    ];
    prop::collection::vec(step, 1..40)
}

/// All alike, so that nothing but order tells answers apart.
fn steps_alike() -> impl Strategy<Value = Vec<Step>> {
    let alike = Plan {
        kind: Kind::Unnamed,
        fails: false,
        rows: 0,
        value_bytes: 0,
        notice: false,
        shares_sync: false,
    };
    let step = prop_oneof![
        10 => prop::sample::select(vec![Kind::Simple, Kind::Named, Kind::Again])
            .prop_map(move |kind| Step::Send(Plan { kind, ..alike })),
        10 => Just(Step::Answer(1)),
        1 => Just(Step::Quiet),
        1 => Just(Step::Stall),
    ];
    prop::collection::vec(step, 1..60)
}

/// A client that has so many requests open at any time: it sends the next one with every answer.
fn window(width: usize) -> impl Strategy<Value = Vec<Step>> {
    (steps_alike(), 0usize..3).prop_map(move |(steps, lead)| {
        let sends = steps.into_iter().filter(|step| matches!(step, Step::Send(_)));
        let mut steps = Vec::new();
        for (at, send) in sends.enumerate() {
            if at >= width + lead {
                steps.push(Step::Answer(1));
            }
            steps.push(send);
        }
        steps
    })
}

/// What happens to one piece: how long it is, and what becomes of it.
#[derive(Clone, Debug)]
enum Fate {
    Captured,
    /// Only this share of it (in 256ths) is captured, the rest is known to be missing; `tail`: but for
    /// its last eight bytes.
    Prefix {
        share: u8,
        tail: bool,
    },
    Lost,
    LostUnknown,
}

fn any_fate(damage: f64) -> impl Strategy<Value = (usize, Fate)> {
    let bad = prop_oneof![
        3 => any::<(u8, bool)>().prop_map(|(share, tail)| Fate::Prefix { share, tail }),
        1 => Just(Fate::Lost),
        1 => Just(Fate::LostUnknown),
    ];
    let fate = (prop::bool::weighted(damage), bad)
        .prop_map(|(damaged, bad)| if damaged { bad } else { Fate::Captured });
    (prop_oneof![1usize..80, Just(usize::MAX), Just(usize::MAX)], fate)
}

fn any_fates(damage: f64) -> impl Strategy<Value = Vec<(usize, Fate)>> {
    prop::collection::vec(any_fate(damage), 1..20)
}

impl Run {
    /// A piece of which only the beginning was captured, and perhaps the end.
    fn cut_at(&mut self, direction: Direction, piece: &[u8], kept: usize, tail: bool) {
        if tail && piece.len() > kept + 8 {
            self.cut(direction, piece, kept);
        } else {
            self.piece(direction, &piece[..kept], (piece.len() - kept) as u64);
        }
    }
}

/// How a run begins.
#[derive(Clone, Copy, Debug, Default)]
struct Begin {
    in_the_middle: bool,
    /// The caller knows that the client takes turns.
    turns: bool,
}

impl Begin {
    fn run(self) -> Run {
        let mut run = if self.in_the_middle { Run::new(false) } else { Run::session() };
        if self.turns {
            run.connection.takes_turns();
        }
        run
    }
}

/// Delivers what passed in pieces.
fn deliver(passed: &[Passed], fates: &[(usize, Fate)], begin: Begin) -> Run {
    let mut run = begin.run();
    let mut fates = fates.iter().cycle();
    for passed in passed {
        let Passed::Bytes(direction, bytes) = passed else {
            run.idle();
            continue;
        };
        let (direction, mut rest) = (*direction, &**bytes);
        while !rest.is_empty() {
            let (length, fate) = fates.next().unwrap();
            let (piece, after) = rest.split_at(rest.len().min(*length));
            rest = after;
            // Met in the middle, a stream's offset is known from its first piece on.
            let placed = !begin.in_the_middle || run.connection.counters(direction).fed_bytes > 0;
            match fate {
                Fate::Prefix { share, tail } if placed => {
                    run.cut_at(direction, piece, piece.len() * usize::from(*share) / 256, *tail);
                }
                Fate::Lost if placed => {
                    run.hole(direction, piece.len() as u64);
                }
                Fate::LostUnknown if placed => {
                    run.hole(direction, piece.len() as u64).gap(direction);
                }
                _ => {
                    run.piece(direction, piece, 0);
                }
            }
        }
    }
    run.close();
    run
}

/// Delivers what passed with a budget of captured bytes for what passes in one direction before
/// something passes in the other.
fn deliver_within(passed: &[Passed], budget: usize, begin: Begin) -> Run {
    let mut run = begin.run();
    let mut last = None;
    let mut left = budget;
    for passed in passed {
        let Passed::Bytes(direction, bytes) = passed else {
            run.idle();
            continue;
        };
        if last.replace(*direction) != Some(*direction) {
            left = budget;
        }
        let kept = left.min(bytes.len());
        left -= kept;
        run.cut_at(*direction, bytes, kept, true);
    }
    run.close();
    run
}

/// What is told is true, be it not everything.
fn assert_true(run: &Run, steps: &[Step]) {
    let mut fresh = BTreeMap::new();
    for exchange in exchanges(&run.events) {
        exchange.assert_paired_right(&|| format!("{steps:?}"));
        let Some(due) = exchange.rows_due() else { continue };
        // Of what is executed again the text came with the first execution only.
        let again = exchange.query.fresh && fresh.insert(due, ()).is_some();
        assert!(!again, "{} once more, {steps:?}", exchange.tell());
        let Step::Send(plan) = steps[due as usize - 1] else { panic!("{}", exchange.tell()) };
        if let Some(Ok(End::Complete(done))) = &exchange.end
            && !matches!(plan.kind, Kind::Named)
        {
            assert_eq!(done.error.is_some(), plan.fails, "{}", exchange.tell());
            let returned = done.returned.is_none_or(|rows| rows == plan.rows as u64);
            assert!(returned || plan.fails, "{} of {plan:?}", exchange.tell());
        }
        if matches!(plan.kind, Kind::PrepareOnly) {
            assert_eq!(exchange.query.kind, QueryKind::Prepare);
        }
    }
}

fn told(run: &Run, kinds: impl Fn(&End<'_>) -> bool) -> usize {
    let exchanges = exchanges(&run.events);
    exchanges.iter().filter(|it| matches!(&it.end, Some(Ok(end)) if kinds(end))).count()
}

/// How many exchanges there are to tell.
fn due(steps: &[Step]) -> usize {
    let executes = |step: &&Step| match step {
        Step::Send(plan) => !matches!(plan.kind, Kind::PrepareOnly | Kind::Again),
        _ => false,
    };
    steps.iter().filter(executes).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn undamaged_every_exchange_is_told_in_full(
        steps in any_steps(),
        turns in any::<bool>(),
        fates in any_fates(0.0),
    ) {
        let run = deliver(&play(&steps, turns), &fates, Begin::default());
        assert_true(&run, &steps);
        prop_assert_eq!(run.skipped(), 0);
        let all = exchanges(&run.events);
        prop_assert!(all.iter().filter(|it| it.query.kind != QueryKind::Prepare).count() >= due(&steps));
        for exchange in &all {
            if exchange.query.kind == QueryKind::Execute && exchange.query.text.is_some() {
                let executions = all.iter().filter(|it| it.query.text == exchange.query.text);
                let fresh = executions.filter(|it| it.query.fresh).count();
                prop_assert_eq!(fresh, 1, "{}", exchange.tell());
            }
            prop_assert!(
                matches!(exchange.end, Some(Ok(End::Complete(_) | End::NotExecuted))),
                "{}", exchange.tell()
            );
        }
    }

    #[test]
    fn nothing_wrong_is_told_whatever_is_lost(
        steps in prop_oneof![any_steps(), steps_alike()],
        fates in any_fates(0.15),
        in_the_middle in any::<bool>(),
    ) {
        let begin = Begin { in_the_middle, turns: false };
        let run = deliver(&play(&steps, false), &fates, begin);
        assert_true(&run, &steps);
    }

    #[test]
    fn nor_of_a_client_that_has_so_many_open_at_any_time(
        steps in prop_oneof![window(2), window(3)],
        fates in any_fates(0.05),
        in_the_middle in any::<bool>(),
    ) {
        let begin = Begin { in_the_middle, turns: false };
        let run = deliver(&play(&steps, false), &fates, begin);
        assert_true(&run, &steps);
    }

    #[test]
    fn nor_of_one_that_takes_turns(
        steps in prop_oneof![any_steps(), steps_alike()],
        fates in any_fates(0.15),
        in_the_middle in any::<bool>(),
        turns in any::<bool>(),
    ) {
        let run = deliver(&play(&steps, true), &fates, Begin { in_the_middle, turns });
        assert_true(&run, &steps);
    }

    #[test]
    fn of_a_client_that_takes_turns_everything_is_told_within_any_budget(
        steps in any_steps(),
        budget in 64usize..400,
    ) {
        let steps: Vec<Step> =
            steps.into_iter().filter(|step| !matches!(step, Step::Stall)).collect();
        let run = deliver_within(&play(&steps, true), budget, Begin { in_the_middle: false, turns: true });
        assert_true(&run, &steps);
        let told = told(&run, |end| matches!(end, End::Complete(_) | End::Inferred(_)));
        prop_assert!(told >= due(&steps), "{} of {}: {:#?}", told, due(&steps), run.told());
    }
}
