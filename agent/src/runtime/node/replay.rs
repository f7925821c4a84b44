//! What the assist is told by the world, as a recording holds it: taken from a running one, and told to another that
//! asks no process anything.

use serde::{Deserialize, Serialize};

use super::area::Entry;
use super::{Assist, State, Told};
use crate::call::ProcessId;

/// How far the assist of a process is, as far as the rest of the agent can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing of the agent's is in it, and nobody is on the way.
    #[default]
    Idle,
    /// It is asked to take the script.
    Asked,
    /// It has it.
    Assisted,
    /// It is asked to give it back.
    Undoing,
}

impl State {
    fn phase(&self) -> Phase {
        match self {
            Self::Waiting { .. } | Self::Unassisted => Phase::Idle,
            Self::Asked { .. } => Phase::Asked,
            Self::Assisted => Phase::Assisted,
            Self::Undoing { .. } => Phase::Undoing,
        }
    }
}

/// What one round was told from outside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heard {
    /// Processes that became assisted.
    pub(super) began: Vec<ProcessId>,
    /// Notes, in the order in which they were read.
    pub(super) notes: Vec<(ProcessId, Entry)>,
    /// Processes of which notes were lost.
    pub(super) lost: Vec<ProcessId>,
    /// Processes whose notes ended.
    pub(super) over: Vec<ProcessId>,
    /// Phases that are others than in the round before.
    pub(super) phases: Vec<(ProcessId, Phase)>,
}

impl Heard {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Assist {
    /// Keeps what each round hears from now on: [`Self::take_heard`].
    pub fn record(&mut self) {
        self.heard = Some(Heard::default());
    }

    /// What was heard since this was asked last.
    pub fn take_heard(&mut self) -> Heard {
        let Some(heard) = &mut self.heard else { return Heard::default() };
        let mut heard = std::mem::take(heard);
        for (id, followed) in &mut self.followed {
            let phase = followed.state.phase();
            if phase != followed.told {
                followed.told = phase;
                heard.phases.push((*id, phase));
            }
        }
        heard
    }

    /// A round that is told what another one heard.
    pub fn replay(&mut self, now_ns: u64, heard: Heard, mut out: impl FnMut(Told)) {
        for id in heard.began {
            self.owners.begin(id, now_ns);
            self.fresh.push(id);
        }
        self.follow(now_ns, &mut out);
        self.counts.notes += heard.notes.len() as u64;
        self.notes = heard.notes;
        for id in heard.over {
            self.owners.end(id);
        }
        for id in heard.lost {
            self.owners.lost(id, now_ns);
        }
        self.settle(now_ns, &mut out);
        for (id, phase) in heard.phases {
            let Some(followed) = self.followed.get_mut(&id) else { continue };
            followed.state = match phase {
                Phase::Idle => State::Unassisted,
                Phase::Asked => State::Asked { attempts: 0 },
                Phase::Assisted => State::Assisted,
                Phase::Undoing => State::Undoing { again: false },
            };
        }
    }
}
