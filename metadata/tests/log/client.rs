//! Replicas that work on one log, as Raft would.

use super::{
    Dice,
    model::{Call, Calls, Model, Note, Replica, Replicas, apply, entry, id},
    node::{Key, Tables, env, open, replica},
};
use ashlar_metadata::log::{LogStore, NodeLog, raft::Vote};
use ashlar_runtime::{Env, SimDisk};
use ashlar_types::GroupId;
use futures_util::future::join_all;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use std::{collections::BTreeMap, io, sync::atomic::Ordering};

/// A log with its replicas, open.
pub(crate) struct Client {
    pub(crate) disk: SimDisk,
    env: Env,
    log: NodeLog,
    pub(crate) calls: Calls,
    stores: BTreeMap<Key, (LogStore, Tables)>,
    /// As if every call had been answered.
    pub(crate) replicas: Replicas,
}

impl Client {
    /// Opens a log that holds these replicas.
    pub(crate) fn open(disk: &SimDisk, seed: u64, model: &Model, calls: Calls) -> Result<Self, String> {
        let env = env(disk, seed);
        let log = open(&env).map_err(|error| error.to_string())?;
        let replicas = model.clone().settled();
        let mut client =
            Self { disk: disk.clone(), env, log, calls, stores: BTreeMap::new(), replicas: Replicas::new() };
        for (key, known) in replicas {
            client.lend(key, known.purged.map_or(0, |purged| purged.index))?;
            client.replicas.insert(key, known);
        }
        Ok(client)
    }

    fn lend(&mut self, key: Key, applied: u64) -> Result<(), String> {
        let tables = Tables::new(&self.disk, key);
        tables.applied.store(applied, Ordering::SeqCst);
        let store = replica(&self.log, &self.env, &tables).map_err(|error| error.to_string())?;
        self.stores.insert(key, (store, tables));
        Ok(())
    }

    /// The next call that a replica could make.
    fn choose(&self, key: Key, dice: &mut Dice) -> Call {
        let Some(replica) = self.replicas.get(&key) else { return Call::Begin(key) };
        let Replica { vote, committed, purged, entries, asked } = replica;
        let last = replica.last();
        let term = vote.map_or(1, |vote| vote.leader_id.term);
        let next = last.map_or(0, |last| last.index + 1);
        let append = |count: u64| {
            let term = last.map_or(term, |last| last.leader_id.term.max(term));
            Call::Append(key, (next..next + count).map(|index| id(term, index)).collect())
        };
        match dice.below(16) {
            0 | 1 => {
                let vote = Vote::new(term + dice.below(2), dice.below(3));
                if Some(vote) > *vote_of(replica) { Call::Vote(key, vote) } else { append(1) }
            }
            2 | 3 => {
                let open: Vec<_> = entries.values().filter(|id| Some(**id) > *committed).collect();
                match usize::try_from(dice.below(open.len() as u64 + 1)).ok().and_then(|at| open.get(at)) {
                    Some(id) => Call::Commit(key, **id),
                    None => append(2),
                }
            }
            4 | 5 => {
                let known = (*committed).max(*purged).max(asked.iter().copied().max());
                let open: Vec<_> = entries.values().filter(|id| Some(**id) >= known).collect();
                match usize::try_from(dice.below(open.len() as u64 + 1)).ok().and_then(|at| open.get(at)) {
                    Some(id) => Call::Truncate(key, Some(**id)),
                    None => append(3),
                }
            }
            6 | 7 => match committed.filter(|id| Some(*id) > *purged && asked.iter().all(|asked| asked < id))
            {
                Some(id) => Call::AskPurge(key, id),
                None => append(1),
            },
            // A snapshot was installed.
            8 if dice.below(4) == 0 => {
                let term = last.map_or(term, |last| last.leader_id.term.max(term));
                Call::AskPurge(key, id(term, next + dice.below(20)))
            }
            9 if dice.below(6) == 0 => Call::Remove(key),
            _ => append(1 + dice.below(40)),
        }
    }

    /// Some calls at once. An error is one that the log gave.
    pub(crate) async fn wave(&mut self, keys: &[Key], dice: &mut Dice, callers: u64) -> io::Result<()> {
        let mut planned = Vec::new();
        let mut busy = Vec::new();
        for _ in 0..=dice.below(callers) {
            let place = usize::try_from(dice.below(keys.len() as u64)).unwrap();
            let key = keys[place];
            if !busy.contains(&key) {
                let call = self.choose(key, dice);
                // Raft has many appends under way, but one of anything else.
                if !matches!(call, Call::Append(..)) || dice.below(2) == 0 {
                    busy.push(key);
                }
                self.plan(call, dice, &mut planned);
            }
        }
        self.make(planned).await
    }

    pub(crate) fn plan(&mut self, call: Call, dice: &mut Dice, planned: &mut Vec<(Call, u64)>) {
        if let Call::Begin(key) = call
            && !self.stores.contains_key(&key)
        {
            planned.push((call.clone(), 0));
        } else {
            planned.push((call.clone(), if dice.below(3) == 0 { dice.below(6) } else { 0 }));
        }
        apply(&mut self.replicas, &call);
    }

    pub(crate) async fn make(&mut self, planned: Vec<(Call, u64)>) -> io::Result<()> {
        // Later calls must not overtake those that wait longer before they begin.
        let mut delay = 0;
        let this = &*self;
        let calls = planned.iter().map(|(call, wait)| {
            delay += wait;
            this.call(call.clone(), delay)
        });
        let calls: Vec<_> = calls.collect();
        for done in join_all(calls).await {
            done?;
        }
        for (call, _) in planned {
            match call {
                Call::Begin(key) => self.lend(key, 0).map_err(io::Error::other)?,
                Call::Remove(key) => drop(self.stores.remove(&key)),
                Call::AskPurge(key, upto) => {
                    let whole = self
                        .replicas
                        .get(&key)
                        .is_some_and(|replica| replica.entries.keys().all(|index| *index <= upto.index));
                    if whole {
                        let call = Call::Purge(key, upto);
                        apply(&mut self.replicas, &call);
                    }
                }
                Call::Append(..)
                | Call::Vote(..)
                | Call::Commit(..)
                | Call::Truncate(..)
                | Call::Purge(..) => {}
            }
        }
        Ok(())
    }

    async fn call(&self, call: Call, delay: u64) -> io::Result<()> {
        for _ in 0..delay {
            tokio::task::yield_now().await;
        }
        let number = self.calls.add(call.clone());
        let store = |key: &Key| self.stores.get(key).cloned().ok_or_else(|| io::Error::other("not open"));
        self.disk.note(Note::Called(number).encode());
        match call {
            Call::Begin((group, raft_id)) => self.log.begin(GroupId(group), raft_id).await?,
            Call::Remove((group, raft_id)) => self.log.remove(GroupId(group), raft_id).await?,
            Call::Append(key, ids) => {
                let (mut store, _) = store(&key)?;
                store.blocking_append(ids.into_iter().map(entry)).await?;
            }
            Call::Vote(key, vote) => store(&key)?.0.save_vote(&vote).await?,
            Call::Commit(key, id) => return store(&key)?.0.save_committed(Some(id)).await,
            Call::Truncate(key, last) => store(&key)?.0.truncate_after(last).await?,
            Call::AskPurge(key, upto) => {
                let (mut store, tables) = store(&key)?;
                tables.applied.fetch_max(upto.index, Ordering::SeqCst);
                let before = store.get_log_state().await?.last_log_id;
                store.purge(upto).await?;
                if before <= Some(upto) {
                    let done = self.calls.add(Call::Purge(key, upto));
                    self.disk.note(Note::Called(done).encode());
                }
                return Ok(());
            }
            Call::Purge(..) => return Err(io::Error::other("nobody calls this")),
        }
        self.disk.note(Note::Answered(number).encode());
        Ok(())
    }

    /// Lets go of one replica, which makes its purges durable, and opens it again.
    pub(crate) async fn reopen(&mut self, key: Key) -> Result<(), String> {
        let Some((store, tables)) = self.stores.remove(&key) else { return Ok(()) };
        let upto = self.replicas.get(&key).and_then(|replica| replica.asked.iter().copied().max());
        store.close().await;
        drop(store);
        if let Some(upto) = upto {
            let number = self.calls.add(Call::Purge(key, upto));
            self.disk.note(Note::Called(number).encode());
            self.disk.note(Note::Answered(number).encode());
            apply(&mut self.replicas, &Call::Purge(key, upto));
        }
        self.lend(key, tables.applied.load(Ordering::SeqCst))
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.stores.keys().copied().collect()
    }

    pub(crate) async fn close(mut self) {
        for key in self.keys() {
            // An error would be of the opening.
            let _ = self.reopen(key).await;
        }
        self.log.close().await;
    }
}

fn vote_of(replica: &Replica) -> &Option<Vote> {
    &replica.vote
}
