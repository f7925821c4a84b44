//! What the running pipeline is asked, between two rounds.

use tokio::sync::oneshot;

use super::Pipeline;
use crate::books::{ConfigStatus, Status};
use crate::explain::Explanation;
use crate::export::Tap;
use crate::process::Rules;

/// A question or an order. Answers go back through the sender; who does not wait for them misses nothing.
#[derive(Debug)]
pub enum Request {
    /// Nothing but an answer: rounds are made.
    Alive(oneshot::Sender<()>),
    /// The books of this moment.
    Status(oneshot::Sender<Status>),
    /// Why a process is traced or not, and what became of what it did.
    Explain(i32, oneshot::Sender<Explanation>),
    /// A way to see spans as they are made; none where too many look already.
    Tap(oneshot::Sender<Option<Tap>>),
    /// The configuration file was read again: its rules, unless they were refused, and what is to be shown of it.
    /// Answered when they are in force for all that is traced.
    Configure(Option<Box<Rules>>, ConfigStatus, oneshot::Sender<()>),
}

impl Pipeline {
    /// Does what is asked.
    pub(super) fn answer(&mut self, request: Request) {
        match request {
            Request::Alive(asker) => {
                let _gone = asker.send(());
            }
            Request::Status(asker) => drop(asker.send(self.stages.status(&self.capture))),
            Request::Explain(pid, asker) => {
                drop(asker.send(self.stages.explain(pid, &self.capture)));
            }
            Request::Tap(asker) => drop(asker.send(self.stages.export.tap())),
            Request::Configure(rules, config, asker) => {
                self.stages.config = config;
                if let Some(rules) = rules {
                    self.reload(*rules);
                }
                let _gone = asker.send(());
            }
        }
    }
}
