//! Processes whose container's engine has not been heard yet: who is asked about, and what waits for the answer.
//!
//! A process is traced at once where the rules allow it without; what its spans say of it may then be missing for a
//! moment, and they wait for that ([`Selection::may_be_told`]). One that only a label could allow is looked at again.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Look, Selection};
use crate::containers::{Container, ContainerId};
use crate::process::Process;
use crate::span::Resource;

/// How long spans wait for what their resource says: an engine answers in milliseconds.
const WAIT_NS: u64 = 1_000_000_000;

/// Containers whose processes wait to be looked at again.
const WAITING: usize = 4_096;

/// What is asked and awaited.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    /// Somebody answers.
    is_on: bool,
    undescribed: Vec<ContainerId>,
    /// Processes that are not traced as long as nothing is known of their containers.
    waiting: HashMap<ContainerId, Vec<i32>>,
    /// Resources that lack what is not known of their containers, each until a time.
    awaited: Vec<(ContainerId, Arc<Resource>, u64)>,
    /// What spans had that began before it was known, and what they are to have.
    renamed: Vec<(Arc<Resource>, Arc<Resource>)>,
}

impl Descriptions {
    /// A resource has another in its place.
    pub(super) fn replaced(&mut self, before: &Arc<Resource>, after: &Arc<Resource>) {
        self.awaited.retain(|(_, resource, _)| !Arc::ptr_eq(resource, before));
        if !Arc::ptr_eq(before, after) {
            self.renamed.push((Arc::clone(before), Arc::clone(after)));
        }
    }
}

impl Selection {
    /// From now on [`Selection::take_undescribed`] is asked for.
    pub fn describe_containers(&mut self) {
        self.descriptions.is_on = true;
    }

    /// Containers to ask about, since the last time.
    pub fn take_undescribed(&mut self) -> Vec<ContainerId> {
        std::mem::take(&mut self.descriptions.undescribed)
    }

    /// An engine was heard; `None`: none knows it.
    pub fn described(&mut self, id: &ContainerId, container: Option<Container>) {
        let waiting = self.descriptions.waiting.remove(id).unwrap_or_default();
        let Some(container) = container else {
            return self.descriptions.awaited.retain(|(other, ..)| other != id);
        };
        self.procfs.know(Arc::clone(id), Arc::new(container));
        let is_in = |process: &Process| process.container_id.as_deref() == Some(id);
        let traced = self.by_id.values().filter(|it| it.gone_ns.is_none() && is_in(&it.process));
        let traced: Vec<i32> = traced.map(|traced| traced.process.pid).collect();
        for pid in traced {
            self.looks.add(pid, Look::default());
        }
        for pid in waiting {
            self.looks.add(pid, Look { running: true, ..Look::default() });
        }
    }

    /// A process is not traced, but could be if more were known of its container.
    pub(super) fn may_be_labelled(&mut self, process: &Process) {
        let Some(id) = undescribed(process).filter(|_| self.procfs.wanted().containers) else {
            return;
        };
        let Descriptions { is_on, undescribed, waiting, .. } = &mut self.descriptions;
        if *is_on && (waiting.len() < WAITING || waiting.contains_key(&id)) {
            waiting.entry(Arc::clone(&id)).or_default().push(process.pid);
            undescribed.push(id);
        }
    }

    /// A process is traced with this resource.
    pub(super) fn await_description(
        &mut self,
        process: &Process,
        resource: &Arc<Resource>,
        now_ns: u64,
    ) {
        let Some(id) = undescribed(process).filter(|_| self.descriptions.is_on) else { return };
        self.descriptions.undescribed.push(Arc::clone(&id));
        let until_ns = now_ns.saturating_add(WAIT_NS);
        self.descriptions.awaited.push((id, Arc::clone(resource), until_ns));
    }

    /// Nothing will be heard of a container.
    pub fn give_up_on(&mut self, id: &ContainerId) {
        self.descriptions.awaited.retain(|(other, ..)| other != id);
        self.descriptions.waiting.remove(id);
    }

    /// Time passes: nothing waits for ever, and what no span has any more is forgotten.
    pub(super) fn forget_awaited(&mut self, now_ns: u64) {
        self.descriptions.awaited.retain(|(.., until_ns)| now_ns < *until_ns);
        self.descriptions.renamed.retain(|(before, _)| Arc::strong_count(before) > 1);
    }

    /// Whether [`Selection::may_be_told`] and [`Selection::renamed`] need not be asked.
    pub fn all_are_described(&self) -> bool {
        self.descriptions.awaited.is_empty() && self.descriptions.renamed.is_empty()
    }

    /// Whether a span's resource says all that it will.
    pub fn may_be_told(&self, resource: &Arc<Resource>) -> bool {
        !self.descriptions.awaited.iter().any(|(_, awaited, _)| Arc::ptr_eq(awaited, resource))
    }

    /// The resource that a span is to have instead.
    pub fn renamed(&self, resource: &Arc<Resource>) -> Option<&Arc<Resource>> {
        let known = self.descriptions.renamed.iter().rev();
        known.into_iter().find(|(before, _)| Arc::ptr_eq(before, resource)).map(|(_, after)| after)
    }
}

fn undescribed(process: &Process) -> Option<ContainerId> {
    let id = process.container_id.as_deref().filter(|_| process.container.is_none())?;
    Some(Arc::from(id))
}
