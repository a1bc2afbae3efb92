//! The server crate in a program of its own, for sections that need more connections than the program allows.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use wsstream_server::auth::{BearerTokens, Token};
use wsstream_server::target::HostTarget;
use wsstream_server::{Api, Container, Limits, Pod, Pods};

use crate::process::TOKEN;

pub(super) async fn serve(listener: TcpListener) -> Result<()> {
    let pods = Pods::new();
    let host = HostTarget::new("host", "host", Default::default());
    pods.add(Pod::new("host").container(Container::new("host", Arc::new(host))))?;
    let token = Token::new(TOKEN).context("the token is too short")?;
    let mut limits = Limits::default();
    limits.sessions = Some(usize::MAX);
    let api = Api::with_limits(pods, BearerTokens::new([token]), &limits);
    Ok(axum::serve(listener, api.router()).await?)
}
