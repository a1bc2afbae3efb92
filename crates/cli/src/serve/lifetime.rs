//! The server from its start to its end, and who may end it: signals, an operator who drains it.

use super::banner::Banner;
use super::manager::Manager;
use super::place::Place;
use super::{Plan, admin};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::notice::print_line;
use crate::signals::Interrupts;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wsstream_server::Server;
use wsstream_server::admin::{Admin, Drain};
use wsstream_server::api::Sessions;

/// Runs until it is told to stop.
pub(super) async fn run(plan: Plan, mut interrupts: Interrupts) -> Result<Exit, Failure> {
    let Plan { config, place, inherited, name } = plan;
    let mut manager = Manager::of_this_service();
    let specs = config.pods.clone();
    let keeper = config.session.command.keeper.clone();
    let admin_place = config.admin_socket.clone();
    let only_inherited = config.listen.is_empty();
    let (mut options, pods) = config.into_parts_beside(!inherited.tcp.is_empty()).map_err(Failure::local)?;
    if only_inherited {
        options.listen.clear();
    }
    let drain = options.limits.drain;
    // And a little for what comes after the sessions.
    let limit = options.limits.shutdown() + crate::LEAVE;
    if let Some(Err(error)) = keeper.map(|keeper| keeper.prepare()) {
        // Each session tries again, and says so to its client.
        tracing::error!(%error, "cannot start the process that keeps commands");
    }
    let bound = Server::bind_on(options, inherited.tcp).await.map_err(Failure::local)?;
    // Held until the end, and dropped on every way there.
    let kubeconfig = place.as_ref().map(|place| place.path.clone());
    let _written = place.map(Place::written);
    // Last of what can fail: no command runs for a server that then cannot listen, or read who may use it.
    pods.start(bound.pods()).map_err(Failure::local)?;
    let mut admin = match admin::open(&admin_place, inherited.admin, &name)? {
        Some(socket) => Some(
            Admin::start(socket, bound.api(), bound.url())
                .map_err(|error| Failure::local(format!("admin socket: {error}")))?,
        ),
        None => None,
    };
    let credential = bound.token().is_some();
    Banner { url: bound.url(), kubeconfig: kubeconfig.as_deref(), credential, pods: &specs }.print();

    let sessions = bound.api().sessions().clone();
    manager.ready();

    let (stop, stopped) = oneshot::channel::<()>();
    let mut stop = Some(stop);
    let serving = bound.run(async {
        // Both a word and a dropped sender mean stop.
        let _ = stopped.await;
    });
    tokio::pin!(serving);
    // Resolves when a drained server has nothing left to wait for.
    let mut draining: Option<std::pin::Pin<Box<dyn Future<Output = bool> + Send>>> = None;
    // The earliest that anybody has ordered.
    let mut deadline: Option<Instant> = None;
    loop {
        tokio::select! {
            drained = &mut serving => {
                if let Some(admin) = admin.take() {
                    admin.finish(drained).await;
                }
                return Ok(Exit::Success);
            }
            () = manager.tick() => manager.beat(sessions.running()),
            order = ordered(&mut admin), if stop.is_some() => {
                if draining.is_none() {
                    sessions.close();
                    manager.phase("draining");
                    let running = sessions.running();
                    print_line(&format!("wsstream: draining; {running} sessions may end by themselves"));
                }
                // One that comes later may be in more of a hurry, never in less.
                let until = order.limit.and_then(|limit| Instant::now().checked_add(limit));
                deadline = deadline.into_iter().chain(until).min();
                draining = Some(Box::pin(idle(sessions.clone(), deadline)));
            }
            idle = finished(&mut draining), if stop.is_some() => {
                // Taken: no later order is listened to.
                if let Some(stop) = stop.take() {
                    let _ = stop.send(());
                }
                manager.stopping(limit);
                print_line(match idle {
                    true => "wsstream: drained: stopping",
                    false => "wsstream: the time for draining is over: stopping",
                });
            }
            interrupt = interrupts.next() => match stop.take() {
                Some(stop) => {
                    let _ = stop.send(());
                    manager.stopping(limit);
                    print_line(&format!(
                        "wsstream: {}: stopping; sessions have {} s to end, a second signal ends them now",
                        interrupt.name,
                        drain.as_secs(),
                    ));
                }
                None => return Err(Failure::signal(interrupt.number, interrupt.name)),
            },
        }
    }
}

async fn ordered(admin: &mut Option<Admin>) -> Drain {
    match admin {
        Some(admin) => admin.ordered().await,
        None => std::future::pending().await,
    }
}

async fn finished<F: Future<Output = bool> + Unpin>(draining: &mut Option<F>) -> bool {
    match draining {
        Some(draining) => draining.await,
        None => std::future::pending().await,
    }
}

/// Whether all sessions have ended by then.
async fn idle(sessions: Sessions, deadline: Option<Instant>) -> bool {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, sessions.idle()).await.is_ok(),
        None => {
            sessions.idle().await;
            true
        }
    }
}
