//! The addresses of `say`.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::http::header::AcceptEncoding;
use actix_web::http::header::EntityTag;
use actix_web::http::header::Header;
use actix_web::http::header::IfNoneMatch;
use actix_web::web;
use actix_web::web::Data;
use actix_web::web::Query;
use actix_web::web::ServiceConfig;
use chassis::Problem;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::percent_decode_str;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;

use crate::body::Body;
use crate::coding;
use crate::coding::Coding;
use crate::pool::Failure;
use crate::speech::Audio;
use crate::speech::Key;
use crate::speech::Speech;
use crate::text::Script;
use crate::text::TextError;
use crate::voice::Voice;
use crate::voice::Voices;

/// The same words sound the same until the engine changes; a day is how long that may take to be heard.
const CACHE_CONTROL: &str = "public, max-age=86400";

/// When to come again, in seconds: most requests take milliseconds.
const RETRY_AFTER_S: u64 = 1;

/// What the handlers share.
#[derive(Clone)]
pub struct State {
    /// Where speech is had from.
    pub speech: Speech,
    /// The voices there are.
    pub voices: Voices,
    /// Who speaks when the request does not say.
    pub voice: Voice,
    /// What `/` says.
    pub greeting: String,
    /// Longest text, in characters.
    pub chars_max: usize,
}

/// Adds the routes.
pub fn routes(state: State) -> impl Fn(&mut ServiceConfig) + Clone {
    move |config| {
        config
            .app_data(Data::new(state.clone()))
            .service(web::resource("/").get(greet).head(greet))
            .service(web::resource(["/say", "/say/{words:.*}"]).get(speak).head(speak));
    }
}

/// `GET /`: on to a greeting.
async fn greet(state: Data<State>) -> HttpResponse {
    let words = utf8_percent_encode(&state.greeting, NON_ALPHANUMERIC);
    HttpResponse::TemporaryRedirect()
        .insert_header((header::LOCATION, format!("/say/{words}")))
        .finish()
}

/// What may stand after `?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    voice: Option<String>,
}

/// `GET /say/{words}`: the words as a WAV.
async fn speak(
    request: HttpRequest,
    options: Query<Options>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let script = Script::parse(&words(&request)?, state.chars_max)?;
    let voice = match &options.voice {
        None => state.voice.clone(),
        Some(name) => {
            state.voices.find(name).map_err(|error| Problem::new(400, error.to_string()))?
        }
    };
    let coding = accepted_coding(&request);
    let audio = state.speech.audio(Key { voice, script, coding }).await?;
    Ok(answer(&request, audio, coding))
}

/// The words in the path. A slash among them is one of the words' own, and so is a `+`.
fn words(request: &HttpRequest) -> Result<String, Problem> {
    // actix-web decodes the path with U+FFFD for what is not UTF-8, which would be spoken.
    if percent_decode_str(request.uri().path()).decode_utf8().is_err() {
        return Err(Problem::new(400, "the words are not UTF-8 when percent-decoded"));
    }
    let words = request.match_info().get("words").unwrap_or_default();
    // It leaves `%25`, `%2F` and `%2B` for the handler to decode.
    Ok(percent_decode_str(words).decode_utf8_lossy().into_owned())
}

fn accepted_coding(request: &HttpRequest) -> Coding {
    let accepted = request
        .headers()
        .contains_key(header::ACCEPT_ENCODING)
        .then(|| AcceptEncoding::parse(request).unwrap_or_else(|_| AcceptEncoding(Vec::new())));
    coding::choose(accepted.as_ref())
}

/// The audio, or 304 when the client has it already (RFC 9110 §13.1.2).
fn answer(request: &HttpRequest, audio: Audio, coding: Coding) -> HttpResponse {
    let tag = EntityTag::new_strong(audio.tag.to_string());
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key(header::IF_NONE_MATCH),
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut response =
        HttpResponse::build(if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    response
        .insert_header(header::ETag(tag))
        .insert_header((header::VARY, "Accept-Encoding"))
        .insert_header((header::CACHE_CONTROL, CACHE_CONTROL));
    if known {
        return response.finish();
    }
    if coding == Coding::Gzip {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    response.content_type("audio/wav").body(Body(audio.body))
}

impl From<TextError> for Problem {
    fn from(error: TextError) -> Self {
        let status = match error {
            TextError::Empty => 400,
            TextError::TooLong { .. } => 413,
        };
        Self::new(status, error.to_string())
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = match failure {
            Failure::Busy => 503,
            Failure::TooLong { .. } => 413,
            Failure::Silent => 400,
            Failure::Crashed | Failure::TimedOut | Failure::Refused => 500,
        };
        let problem = Self::new(status, failure.to_string());
        if failure == Failure::Busy { problem.with_retry_after(RETRY_AFTER_S) } else { problem }
    }
}
