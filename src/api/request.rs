//! The parameters and the body of a request.

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::respond::Problem;
#[cfg(any(test, fuzzing))]
use crate::config::quantity;

/// Bytes of a request's body.
const LONGEST_BODY: usize = 1 << 20;

/// Time for it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The parameters behind the `?` of a request.
#[derive(Debug, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Takes `known` parameters.
    pub fn new(text: &str, known: &[&str]) -> Result<Query, Problem> {
        let mut map = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
            if !known.contains(&name) {
                let message = format!("unknown parameter {name:?}; known parameters: {known:?}");
                return Err(Problem::bad_request(message));
            }
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value)
                .decode_utf8()
                .map_err(|_| Problem::bad_request(format!("parameter {name:?} is not valid UTF-8")))?;
            map.insert(name.to_owned(), value.into_owned());
        }
        Ok(Query(map))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter that is `true` or `false`.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::bad_request(format!("parameter {name:?} must be true or false"))),
        }
    }

    /// A parameter that `parse` reads.
    pub fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let bad = || Problem::bad_request(format!("invalid value {text:?} of parameter {name:?}"));
        parse(text).map(Some).ok_or_else(bad)
    }
}

/// The body of a request.
pub async fn body(request: Request<Incoming>) -> Result<Vec<u8>, Problem> {
    let limited = Limited::new(request.into_body(), LONGEST_BODY);
    match tokio::time::timeout(BODY_TIMEOUT, limited.collect()).await {
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "BadRequest", "timed out reading the request body"))
        }
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body has more than {LONGEST_BODY} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message))
        }
        Ok(Err(e)) => Err(Problem::bad_request(format!("reading the body: {e}"))),
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
    }
}

/// JSON of a body; an empty one is an object without members.
pub fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|e| Problem::bad_request(format!("the body is not as expected: {e}")))
}

/// The parameters of an address.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(text: &str) {
    if let Ok(query) = Query::new(text, &["watch", "file", "gracePeriodSeconds"]) {
        let _ = (query.flag("watch"), query.parsed("gracePeriodSeconds", quantity::duration));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_unknown_ones_refused() {
        let query = Query::new("a=x%20y%2Fz&b&c=1+2", &["a", "b", "c", "d"]).unwrap();
        assert_eq!(query.get("a"), Some("x y/z"));
        assert!(query.flag("b").unwrap());
        assert!(!query.flag("d").unwrap());
        assert_eq!(query.get("c"), Some("1 2"));
        assert!(query.flag("c").is_err());
        for bad in ["z=1", "a=%ff"] {
            assert_eq!(Query::new(bad, &["a"]).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
