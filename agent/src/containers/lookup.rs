//! Asking engines beside the pipeline: no question waits, no answer is waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use super::{Container, ContainerId, Socket, describe};

/// Questions that wait at most. One more is asked when its container is met again.
const QUESTIONS: usize = 1024;

/// Questions under way at once: an engine serves its node, too.
const AT_ONCE: usize = 8;

/// How long nobody is asked again about a container that no engine knew.
const AGAIN_NS: u64 = 30_000_000_000;

/// Containers that were asked about lately.
const ASKED: usize = 4096;

/// Engines that are asked.
#[derive(Debug)]
pub struct Lookup {
    questions: Sender<ContainerId>,
    answers: Receiver<(ContainerId, Option<Container>)>,
    asked: HashMap<ContainerId, Asked>,
}

/// That a container was asked about.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at_ns: u64,
    is_answered: bool,
}

impl Lookup {
    /// Asks these, in this order, on the runtime's threads.
    pub fn start(sockets: Vec<Socket>, runtime: &Handle) -> Self {
        let (questions, mut inbox) = tokio::sync::mpsc::channel::<ContainerId>(QUESTIONS);
        let (outbox, answers) = mpsc::channel();
        let (sockets, places) = (Arc::new(sockets), Arc::new(Semaphore::new(AT_ONCE)));
        runtime.spawn(async move {
            while let Some(id) = inbox.recv().await {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let (sockets, outbox) = (Arc::clone(&sockets), outbox.clone());
                tokio::spawn(async move {
                    let found = describe(&sockets, &id).await;
                    // Nobody hears it where the agent leaves.
                    drop(outbox.send((id, found)));
                    drop(place);
                });
            }
        });
        Self { questions, answers, asked: HashMap::new() }
    }

    /// Asks about a container, unless that was done lately. Whether an answer is to come.
    pub fn ask(&mut self, id: &ContainerId, now_ns: u64) -> bool {
        let lately = |asked: &&Asked| now_ns.saturating_sub(asked.at_ns) < AGAIN_NS;
        if let Some(asked) = self.asked.get(id).filter(lately) {
            return !asked.is_answered;
        }
        if self.asked.len() >= ASKED {
            self.asked.clear();
        }
        let is_asked = self.questions.try_send(Arc::clone(id)).is_ok();
        if is_asked {
            self.asked.insert(Arc::clone(id), Asked { at_ns: now_ns, is_answered: false });
        }
        is_asked
    }

    /// The next answer that has come; `None` within: no engine knows the container, or none answers.
    pub fn answer(&mut self) -> Option<(ContainerId, Option<Container>)> {
        let (id, container) = self.answers.try_recv().ok()?;
        if let Some(asked) = self.asked.get_mut(&id) {
            asked.is_answered = true;
        }
        Some((id, container))
    }
}
