//! Orders about a configuration in the shadow of the one that is served.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sluicegate_model::escape;
use sluicegate_model::shadow::{Asked, MOST_RATE};

use crate::plugins::Refused;
use crate::shown::Shown;
use crate::{View, failed};

fn line(text: &str) -> String {
    escape::line(text).into_owned() + "\n"
}

/// Does what takes seconds on a thread of its own.
async fn done(order: impl FnOnce() -> Result<String, String> + Send + 'static) -> Result<Response, Refused> {
    match tokio::task::spawn_blocking(order).await {
        Ok(Ok(text)) => Ok(line(&text).into_response()),
        Ok(Err(error)) => Err((StatusCode::CONFLICT, line(&error))),
        Err(error) => Ok(failed(&error)),
    }
}

pub(super) async fn begin(State(view): State<View>, Json(asked): Json<Asked>) -> Result<Response, Refused> {
    let bad = |why: &str| Err((StatusCode::BAD_REQUEST, format!("{why}\n")));
    if !asked.path.is_absolute() {
        return bad("the path of the configuration is to be a whole one");
    }
    if !(1..=1_000_000_000).contains(&asked.every) || !(1..=MOST_RATE).contains(&asked.rate) {
        return bad(&format!("every is from 1 to 1000000000, and rate from 1 to {MOST_RATE}"));
    }
    done(move || view.shadow.begin(asked)).await
}

pub(super) async fn status(State(view): State<View>) -> Response {
    match tokio::task::spawn_blocking(move || view.shadow.status()).await {
        Ok(Some(status)) => Shown(status).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "no configuration is in the shadow\n").into_response(),
        Err(error) => failed(&error),
    }
}

pub(super) async fn order(State(view): State<View>, Path(order): Path<String>) -> Result<Response, Refused> {
    match order.as_str() {
        "promote" => done(move || view.shadow.promote()).await,
        "drop" => done(move || view.shadow.end()).await,
        other => Err((StatusCode::NOT_FOUND, line(&format!("{other:?}: promote or drop is wanted")))),
    }
}
