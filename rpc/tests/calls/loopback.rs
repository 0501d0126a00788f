//! A server of one node on a free port.

use ashlar_rpc::{Routes, RpcIdentity, bind, serve};
use ashlar_runtime::{Env, TaskHandle};
use ashlar_types::ClusterId;
use std::time::Duration;
use tokio::sync::oneshot;

pub(crate) const LIMIT: Duration = Duration::from_secs(10);
pub(crate) const OURS: ClusterId = ClusterId(0xa5);

pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: TaskHandle,
}

pub(crate) async fn start(env: &Env, routes: Routes, identity: RpcIdentity) -> Server {
    start_at(env, "127.0.0.1:0", routes, identity).await
}

pub(crate) async fn start_at(env: &Env, address: &str, routes: Routes, identity: RpcIdentity) -> Server {
    let listener = bind(env, address).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel();
    let task = {
        let env = env.clone();
        env.clone().tasks.spawn("server", async move {
            serve(&env, listener, routes, identity, async { drop(stopped.await) }).await;
        })
    };
    Server { address, stop, task }
}

impl Server {
    /// In order: calls under way end first.
    pub(crate) async fn shut_down(self) {
        self.stop.send(()).unwrap();
        self.task.join().await;
    }
}
