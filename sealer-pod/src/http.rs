//! `/healthz`, `/readyz` and `/metrics`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What `/metrics` shows.
pub(crate) trait Exposed: Clone + Send + Sync + 'static {
    /// In Prometheus' text form.
    fn text(&self) -> Vec<u8>;
}

/// The main loop turns at least this often when it is well.
const STUCK_AFTER: Duration = Duration::from_mins(2);

/// What the probes tell.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    turned: Instant,
    not_ready: Option<String>,
}

impl Health {
    /// Alive, not ready yet.
    pub(crate) fn new() -> Self {
        let not_ready = Some("starting".to_owned());
        Self(Arc::new(Mutex::new(State {
            turned: Instant::now(),
            not_ready,
        })))
    }

    /// The main loop turned.
    pub(crate) fn turn(&self) {
        self.lock().turned = Instant::now();
    }

    /// Ready, or why not.
    pub(crate) fn ready(&self, not_ready: Option<String>) {
        self.lock().not_ready = not_ready;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> bool {
        self.lock().turned.elapsed() < STUCK_AFTER
    }
}

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be used.
pub(crate) async fn serve(
    at: SocketAddr,
    health: Health,
    metrics: impl Exposed,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(at).await?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (health, metrics) = (health.clone(), metrics.clone());
                    let answer = service_fn(move |request| {
                        let response = answer(&request, &health, &metrics);
                        async { Ok::<_, Infallible>(response) }
                    });
                    tokio::spawn(async move {
                        let served = http1::Builder::new();
                        if let Err(e) = served.serve_connection(TokioIo::new(stream), answer).await
                        {
                            tracing::debug!(error = %e, "connection ended");
                        }
                    });
                }
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept connections");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(())
}

fn answer(
    request: &Request<Incoming>,
    health: &Health,
    metrics: &impl Exposed,
) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/healthz" if health.alive() => (StatusCode::OK, b"ok\n".to_vec()),
        "/healthz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            b"the main loop is stuck\n".to_vec(),
        ),
        "/readyz" => match &health.lock().not_ready {
            None => (StatusCode::OK, b"ok\n".to_vec()),
            Some(why) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{why}\n").into_bytes(),
            ),
        },
        "/metrics" => (StatusCode::OK, metrics.text()),
        _ => (
            StatusCode::NOT_FOUND,
            b"there are /healthz, /readyz and /metrics\n".to_vec(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
