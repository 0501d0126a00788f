//! `GET /metrics` in the Prometheus text format. The recorder is the one thing that is global to the process.

use ashlar_runtime::{Env, Listener, TaskSet};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::{convert::Infallible, sync::OnceLock};

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Begins to keep the process's metrics; a second call changes nothing.
pub fn install() {
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        handle
    });
}

pub async fn serve(env: Env, listener: Box<dyn Listener>, stopped: impl Future<Output = ()> + Send) {
    let connections = TaskSet::new();
    let mut stopped = std::pin::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            () = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((connection, _)) = accepted else { continue };
        connections.push(env.tasks.spawn("metrics-connection", async move {
            let serving =
                http1::Builder::new().serve_connection(TokioIo::new(connection), service_fn(answer));
            // A client that goes away mid-answer is no event.
            let _ = serving.await;
        }));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let known = request.uri().path() == "/metrics";
    let text = match RECORDER.get() {
        Some(recorder) if known => recorder.render(),
        _ => String::new(),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    if !known {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}
