//! Answers.

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

use crate::api::types::{Failure, InvalidFile};
use crate::config::document::diagnostic::Diagnostics;
use crate::supervisor::core::refusal::Refusal;
use crate::supervisor::shell::handle::ChangeError;

/// Answers of handlers.
pub type Answer = Response<BoxBody<Bytes, Infallible>>;

/// A request that is not done, with the status of HTTP.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    body: Vec<u8>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Problem {
        Problem::with_hint(status, code, message, None)
    }

    /// With the way out.
    pub fn hinted(status: StatusCode, code: &str, message: impl Into<String>, hint: &str) -> Problem {
        Problem::with_hint(status, code, message, Some(hint.to_owned()))
    }

    fn with_hint(
        status: StatusCode,
        code: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Problem {
        let failure = Failure { code: code.to_owned(), message: message.into(), hint };
        Problem { status, body: serde_json::to_vec(&failure).unwrap_or_default() }
    }

    pub fn bad_request(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub fn not_found(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub fn internal(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", message)
    }

    /// A file with errors.
    pub fn invalid(d: &Diagnostics) -> Problem {
        let count = match d.errors() {
            1 => "1 error".to_owned(),
            n => format!("{n} errors"),
        };
        let failure = Failure {
            code: "Invalid".to_owned(),
            message: format!("{}: {count}", d.file),
            hint: d
                .list
                .iter()
                .find(|first| first.is_error())
                .map(|first| format!("line {}: {}", first.place.line, first.message)),
        };
        let body = serde_json::to_vec(&InvalidFile { failure, errors: d.list.clone() });
        Problem { status: StatusCode::UNPROCESSABLE_ENTITY, body: body.unwrap_or_default() }
    }

    /// The same, about an object of several.
    pub fn about(self, what: &str) -> Problem {
        match serde_json::from_slice::<Failure>(&self.body) {
            Ok(f) => Problem::with_hint(self.status, &f.code, format!("{what}: {}", f.message), f.hint),
            Err(_) => self,
        }
    }

    /// The answer.
    pub fn answer(self) -> Answer {
        typed(self.status, "application/json", self.body)
    }
}

impl From<ChangeError> for Problem {
    fn from(d: ChangeError) -> Problem {
        match d {
            ChangeError::Refused(Refusal::NotFound) => Problem::with_hint(
                StatusCode::NOT_FOUND,
                "NotFound",
                "no such workload",
                Some("`orund get` lists them".to_owned()),
            ),
            ChangeError::Refused(refusal @ Refusal::Deleting) => Problem::with_hint(
                StatusCode::CONFLICT,
                "Conflict",
                refusal.to_string(),
                Some("wait for its deletion: `orund wait --for=delete NAME`".to_owned()),
            ),
            ChangeError::Refused(refusal @ Refusal::Immutable { .. }) => Problem::with_hint(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                refusal.to_string(),
                Some("delete the object first, or give the new one another name".to_owned()),
            ),
            ChangeError::Refused(refusal) => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", refusal.to_string())
            }
            ChangeError::NotDurable(why) => Problem::with_hint(
                StatusCode::INSUFFICIENT_STORAGE,
                "Unavailable",
                format!("the change could not be made durable, so nothing was changed: {why}"),
                Some("free disk space, or make the supervisor's state directory writable".to_owned()),
            ),
            ChangeError::Ending => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Unavailable",
                "the supervisor is shutting down",
            ),
        }
    }
}

/// JSON with status 200.
pub fn json(value: &impl Serialize) -> Result<Answer, Problem> {
    json_with(StatusCode::OK, value)
}

/// JSON.
pub fn json_with(status: StatusCode, value: &impl Serialize) -> Result<Answer, Problem> {
    let mut body = serde_json::to_vec(value).map_err(|e| Problem::internal(e.to_string()))?;
    body.push(b'\n');
    Ok(typed(status, "application/json", body))
}

/// Any body.
pub fn typed(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// A body that is made while it is sent: what goes into the channel. It ends when all senders are gone; a client that
/// has gone away closes the channel.
pub fn stream(kind: &'static str, parts: mpsc::Receiver<Bytes>) -> Answer {
    let mut answer = Response::new(Parts(parts).boxed());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

struct Parts(mpsc::Receiver<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|part| part.map(|bytes| Ok(Frame::data(bytes))))
    }
}
