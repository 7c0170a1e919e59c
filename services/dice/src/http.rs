//! The addresses of `dice`, at its own root and under `/dice`.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web;
use actix_web::web::Data;
use actix_web::web::Path;
use actix_web::web::ServiceConfig;
use chassis::Problem;
use rand::RngExt;

use crate::face::Face;
use crate::face::FaceError;
use crate::metrics::Metrics;
use crate::shown::shown;

impl From<FaceError> for Problem {
    fn from(error: FaceError) -> Self {
        let status = match error {
            FaceError::NoSuchFace(_) => 422,
            FaceError::NotANumber => 404,
        };
        Self::new(status, error.to_string())
    }
}

pub fn routes(metrics: Metrics) -> impl Fn(&mut ServiceConfig) + Send + Clone + 'static {
    let metrics = Data::new(metrics);
    move |config| {
        config.app_data(metrics.clone());
        for throw_at in ["/", "/dice", "/dice/"] {
            config.service(resource(throw_at, web::get().to(throw), web::head().to(throw)));
        }
        for face_at in ["/{face}", "/dice/{face}"] {
            config.service(resource(face_at, web::get().to(face), web::head().to(face)));
        }
    }
}

fn resource(path: &str, get: actix_web::Route, head: actix_web::Route) -> actix_web::Resource {
    web::resource(path).route(get).route(head)
}

/// `GET /dice`: throws a die.
async fn throw(request: HttpRequest, metrics: Data<Metrics>) -> HttpResponse {
    let face = Face::thrown(|faces| rand::rng().random_range(0..faces));
    metrics.thrown(face);
    shown(face, &request)
}

/// `GET /dice/5`: shows that face.
async fn face(request: HttpRequest, path: Path<String>) -> Result<HttpResponse, Problem> {
    Ok(shown(Face::parse(&path)?, &request))
}
