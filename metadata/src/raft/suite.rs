//! Openraft's own suite for logs and state machines, run on ours.

use super::{
    machine::Machine,
    types::{RaftTypes, Runtime},
};
use crate::{
    kv::MemKv,
    log::{LogOptions, LogStore, NodeLog},
    state::StateMachine,
};
use ashlar_runtime::{Env, Pool};
use ashlar_types::GroupId;
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use std::{io, sync::Arc};
use tempfile::TempDir;

struct Builder {
    env: Env,
    pool: Pool,
}

/// Closes the log before its directory goes.
struct Guard {
    _dir: TempDir,
}

impl StoreBuilder<RaftTypes, LogStore, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, Machine), StorageError<RaftTypes>> {
        let dir = TempDir::new().unwrap();
        let state = Arc::new(StateMachine::open(GroupId(1), Arc::new(MemKv::new())).unwrap());
        let persisted = Arc::clone(&state);
        let before_purge = Arc::new(move || persisted.persist().map_err(io::Error::other));
        let options = LogOptions {
            segment_bytes: 32 << 10,
            first_segment_bytes: 16 << 10,
            cache_bytes: 200,
            queue_bytes: 1000,
            read_bytes: 1000,
        };
        let log = NodeLog::open(&self.env, dir.path(), options).unwrap();
        let log = log.replica(GroupId(1), 1, self.pool.clone(), before_purge).unwrap();
        let machine = Machine::new(state, self.pool.clone(), Arc::new(|_| {})).unwrap();
        Ok((Guard { _dir: dir }, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_and_state_machine_pass_the_suite_of_openraft() {
    let env = Env::real();
    let pool = Pool::new(&env.tasks, "suite", 2, 16);
    Runtime::scope(7, Suite::test_all(Builder { env, pool })).await.unwrap();
}
