//! Carries one JSON-RPC body to a node and one back: HTTP POST with a bearer token, a deadline and a size limit.
//!
//! Never: retries (see [`crate::node::Retry`]), redirects (they would carry the token elsewhere), the token in
//! any text.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{StatusCode, Url};
use zeroize::Zeroizing;

use crate::class::Class;

/// A bearer token. It is never printed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes a token as it stands in a Secret; white space around it is dropped.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// The token itself, for an `AuthVerify` call.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Where a node is and how to talk to it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its name in specs, logs and conditions.
    pub name: String,
    /// `http://host:1234/rpc/v1`.
    pub url: String,
    /// The bearer token, if the node wants one.
    pub token: Option<Token>,
    /// A call that takes longer has failed.
    pub timeout: Duration,
    /// A longer answer is refused.
    pub max_response_bytes: usize,
}

impl Endpoint {
    /// An endpoint with a deadline of 30 s and answers of at most 256 MiB.
    pub fn new(name: impl Into<String>, url: impl Into<String>, token: Option<Token>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            token,
            timeout: Duration::from_secs(30),
            max_response_bytes: 256 << 20,
        }
    }
}

/// A call did not get through, or what came back is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be used.
    #[error(
        "endpoint {endpoint}: \"{url}\" is not an http(s) URL: write one such as \"http://host:1234/rpc/v1\""
    )]
    Url {
        /// The endpoint's name.
        endpoint: String,
        /// What was written, without credentials.
        url: String,
    },
    /// The token cannot be a header.
    #[error(
        "endpoint {endpoint}: the token has characters that no HTTP header may have: copy it again"
    )]
    TokenForm {
        /// The endpoint's name.
        endpoint: String,
    },
    /// The HTTP client cannot be made.
    #[error("endpoint {endpoint}: cannot set up TLS: {reason}")]
    Tls {
        /// The endpoint's name.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("endpoint {endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// The endpoint's name.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("endpoint {endpoint} did not answer within {}s", timeout.as_secs_f32())]
    Timeout {
        /// The endpoint's name.
        endpoint: String,
        /// The deadline.
        timeout: Duration,
    },
    /// HTTP 401 or 403.
    #[error(
        "endpoint {endpoint} refuses the token (HTTP {status}): put a valid one into the Secret that tokenSecretRef names"
    )]
    BadToken {
        /// The endpoint's name.
        endpoint: String,
        /// The status.
        status: u16,
    },
    /// HTTP 404 or 405: no JSON-RPC there.
    #[error(
        "endpoint {endpoint} has no JSON-RPC at its URL (HTTP {status}): the path of lotus and Forest is /rpc/v1"
    )]
    NoSuchPath {
        /// The endpoint's name.
        endpoint: String,
        /// The status.
        status: u16,
    },
    /// Another HTTP status than success, without a JSON-RPC body.
    #[error("endpoint {endpoint} answered HTTP {status}: {body}")]
    Http {
        /// The endpoint's name.
        endpoint: String,
        /// The status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// The answer is too long.
    #[error("endpoint {endpoint} sent more than {limit_bytes} bytes")]
    TooLarge {
        /// The endpoint's name.
        endpoint: String,
        /// The limit.
        limit_bytes: usize,
    },
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Url { .. }
            | Self::TokenForm { .. }
            | Self::Tls { .. }
            | Self::BadToken { .. }
            | Self::NoSuchPath { .. } => Class::Fatal,
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Http { .. } => Class::Temporary,
            Self::TooLarge { .. } => Class::Permanent,
        }
    }
}

/// How much of a body a message may quote.
const QUOTE_CHARS: usize = 200;

/// One node over HTTP. Cloning shares the connections.
#[derive(Clone)]
pub struct Http {
    endpoint: Endpoint,
    url: Url,
    authorization: Option<HeaderValue>,
    client: reqwest::Client,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("endpoint", &self.endpoint.name)
            .finish_non_exhaustive()
    }
}

impl Http {
    /// Checks the endpoint's settings. No connection is made yet.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::TokenForm`], [`Error::Tls`]: all Fatal.
    pub fn new(endpoint: Endpoint) -> Result<Self, Error> {
        let name = endpoint.name.clone();
        let url = Url::parse(&endpoint.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| Error::Url {
                endpoint: name.clone(),
                url: without_credentials(&endpoint.url),
            })?;
        let authorization = endpoint.token.as_ref().map(bearer).transpose();
        let authorization = authorization.map_err(|_secret| Error::TokenForm {
            endpoint: name.clone(),
        })?;
        install_crypto_provider();
        let client = reqwest::Client::builder()
            .timeout(endpoint.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|source| Error::Tls {
                endpoint: name,
                reason: chain_of(&source),
            })?;
        Ok(Self {
            endpoint,
            url,
            authorization,
            client,
        })
    }

    /// The endpoint's name.
    pub fn name(&self) -> &str {
        &self.endpoint.name
    }

    /// Posts a body and returns the answer's.
    ///
    /// # Errors
    /// All but the settings' errors. A call that failed with a Temporary error may still have taken effect.
    pub async fn post(&self, body: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let response = request
            .send()
            .await
            .map_err(|source| self.broken(&source))?;
        let status = response.status();
        let body = self.body_of(response).await?;
        self.check_status(status, &body)?;
        Ok(body)
    }

    async fn body_of(&self, mut response: reqwest::Response) -> Result<Vec<u8>, Error> {
        let limit_bytes = self.endpoint.max_response_bytes;
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| self.broken(&source))?
        {
            if body.len().saturating_add(chunk.len()) > limit_bytes {
                return Err(Error::TooLarge {
                    endpoint: self.endpoint.name.clone(),
                    limit_bytes,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Nodes answer some refusals with an error status and a JSON-RPC body; the body says more.
    fn check_status(&self, status: StatusCode, body: &[u8]) -> Result<(), Error> {
        let endpoint = self.endpoint.name.clone();
        match status.as_u16() {
            code @ (401 | 403) => Err(Error::BadToken {
                endpoint,
                status: code,
            }),
            _ if status.is_success() || body.trim_ascii_start().starts_with(b"{\"") => Ok(()),
            code @ (404 | 405) => Err(Error::NoSuchPath {
                endpoint,
                status: code,
            }),
            code => Err(Error::Http {
                endpoint,
                status: code,
                body: quote(body),
            }),
        }
    }

    fn broken(&self, source: &reqwest::Error) -> Error {
        let endpoint = self.endpoint.name.clone();
        if source.is_timeout() {
            Error::Timeout {
                endpoint,
                timeout: self.endpoint.timeout,
            }
        } else {
            Error::Unreachable {
                endpoint,
                reason: chain_of(source),
            }
        }
    }
}

fn bearer(token: &Token) -> Result<HeaderValue, reqwest::header::InvalidHeaderValue> {
    let text = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// TLS needs one provider per process; another library may have installed one already.
fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race to another thread means that a provider is there.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

/// The reasons of an error, outermost first, without the URL (it may carry credentials).
fn chain_of(source: &reqwest::Error) -> String {
    let mut reasons = Vec::new();
    let mut next = source.source();
    while let Some(error) = next {
        reasons.push(error.to_string());
        next = error.source();
    }
    if reasons.is_empty() {
        "the request failed".to_owned()
    } else {
        reasons.join(": ")
    }
}

fn without_credentials(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_credentials, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

/// The start of a text from outside, fit for a log line.
pub(crate) fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut short: String = text.trim().chars().take(QUOTE_CHARS).collect();
    short.retain(|c| !c.is_control());
    if short.is_empty() {
        "(empty)".to_owned()
    } else {
        short
    }
}
