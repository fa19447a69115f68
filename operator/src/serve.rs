//! Answers `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::lease::Role;
use crate::metrics::Metrics;

/// What the answers are made of.
#[derive(Clone, Debug)]
pub struct State {
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Whether every kind was listed once.
    pub synced: Arc<AtomicBool>,
    /// Whether we lead.
    pub role: watch::Receiver<Role>,
}

/// Serves for ever.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(listen: SocketAddr, state: State) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&state, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // Whoever asked has hung up: nothing to do about it.
            drop(connection.await);
        });
    }
}

fn answer(state: &State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    match request.uri().path() {
        "/healthz" => plain(StatusCode::OK, "ok\n".into()),
        "/readyz" => {
            let (status, text) =
                readiness(state.synced.load(Ordering::Acquire), *state.role.borrow());
            plain(status, text.into())
        }
        "/metrics" => {
            state.metrics.set_leader(state.role.borrow().leads());
            plain(StatusCode::OK, state.metrics.text())
        }
        _ => plain(
            StatusCode::NOT_FOUND,
            "try /healthz, /readyz or /metrics\n".into(),
        ),
    }
}

/// Ready: all kinds are listed, and who leads is known.
fn readiness(synced: bool, role: Role) -> (StatusCode, &'static str) {
    match (synced, role) {
        (false, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not all kinds are listed yet\n",
        ),
        (true, Role::Unknown) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the Lease could not be read yet\n",
        ),
        (true, Role::Lost) => (StatusCode::SERVICE_UNAVAILABLE, "the Lease is lost\n"),
        (true, Role::Follower) => (StatusCode::OK, "ok, another one leads\n"),
        (true, Role::Leader { .. }) => (StatusCode::OK, "ok, leading\n"),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_caches_synced_and_lease_state_known() {
        assert_eq!(
            readiness(false, Role::Follower).0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(
            readiness(true, Role::Unknown).0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(readiness(true, Role::Follower).0, StatusCode::OK);
        let renewed = std::time::Instant::now();
        assert_eq!(readiness(true, Role::Leader { renewed }).0, StatusCode::OK);
        assert_eq!(
            readiness(true, Role::Lost).0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
}
