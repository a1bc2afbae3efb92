//! What the registry counts, lets in and ends.

use super::*;
use crate::api::admission::Limit;
use crate::{Limits, Pod, pod::PodSnapshot, rate::Rate};

fn entry(number: u64) -> Arc<Entry> {
    of("ann", "web", number)
}

fn of(user: &str, pod: &str, number: u64) -> Arc<Entry> {
    Arc::new(Entry {
        number,
        kind: SessionKind::Exec,
        who: Some(Identity::new(user).groups(["ops"])),
        peer: "192.0.2.1:5".to_owned(),
        snapshot: Arc::new(PodSnapshot::take(&Pod::new(pod), 1)),
        container: "main".to_owned(),
        protocol: Protocol { carrier: "websocket", name: "v5.channel.k8s.io".to_owned() },
        since: Timestamp::now(),
        began: Instant::now(),
        meter: Arc::default(),
        order: Arc::default(),
    })
}

fn by_operator() -> Given {
    Given { grace: Duration::ZERO, cause: Cause::Operator("done".into()) }
}

fn registry(change: impl FnOnce(&mut Limits)) -> Registry {
    let mut limits = Limits::default();
    change(&mut limits);
    Registry::new(Rules::new(&limits))
}

fn over(registry: &Registry, entry: &Arc<Entry>) -> (Limit, String) {
    let over = registry.add(entry).unwrap_err();
    (over.limit, over.to_string())
}

#[tokio::test]
async fn each_limit_counts_what_it_says_and_gives_back() {
    let all = registry(|limits| limits.sessions = Some(2));
    let (one, two) = (entry(1), entry(2));
    all.add(&one).unwrap();
    all.add(&two).unwrap();
    let text = "too many sessions: the server's limit max-sessions is 2";
    assert_eq!(over(&all, &entry(3)), (Limit::Sessions, text.to_owned()));
    all.remove(&one);
    all.add(&entry(4)).unwrap();

    let users = registry(|limits| limits.sessions_per_user = Some(1));
    let ann = of("ann", "a", 1);
    users.add(&ann).unwrap();
    users.add(&of("bob", "a", 2)).unwrap();
    let text = "too many sessions of user \"ann\": the server's limit max-sessions-per-user is 1";
    assert_eq!(over(&users, &of("ann", "b", 3)), (Limit::PerUser, text.to_owned()));
    // Twice is once.
    users.remove(&ann);
    users.remove(&ann);
    users.add(&of("ann", "b", 4)).unwrap();
    assert_eq!(over(&users, &of("ann", "b", 5)).0, Limit::PerUser);

    let targets = registry(|limits| limits.sessions_per_target = Some(1));
    targets.add(&of("ann", "a", 1)).unwrap();
    targets.add(&of("ann", "b", 2)).unwrap();
    let text = "too many sessions in default/a/main: the server's limit max-sessions-per-target is 1";
    assert_eq!(over(&targets, &of("bob", "a", 3)), (Limit::PerTarget, text.to_owned()));
}

#[tokio::test]
async fn watches_and_logs_are_counted_and_leave_connections_to_answer_on() {
    let all = registry(|limits| (limits.connections, limits.streams) = (32, Some(2)));
    all.add_stream("ann").unwrap();
    all.add_stream("bob").unwrap();
    let third = all.add_stream("eve").unwrap_err();
    assert_eq!(third.limit, Limit::Streams);
    assert_eq!(third.to_string(), "too many watches and logs: the server's limit max-streams is 2");
    all.remove_stream("bob");
    all.add_stream("eve").unwrap();

    let users = registry(|limits| limits.streams_per_user = Some(1));
    users.add_stream("ann").unwrap();
    users.add_stream("bob").unwrap();
    let text = "too many watches and logs of user \"ann\": the server's limit max-streams-per-user is 1";
    assert_eq!(users.add_stream("ann").unwrap_err().to_string(), text);
    users.remove_stream("ann");
    users.add_stream("ann").unwrap();

    let both = registry(|limits| (limits.connections, limits.streams) = (16, Some(15)));
    (0..14).for_each(|_| both.add_stream("ann").unwrap());
    both.add(&entry(1)).unwrap();
    let text = "too many sessions, watches and logs: the server's limit max-connections is 16";
    assert_eq!(both.add_stream("ann").unwrap_err().to_string(), text);
    assert_eq!(over(&both, &entry(2)), (Limit::Connections, text.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn new_sessions_have_a_rate_and_the_refusal_says_when_to_come_back() {
    let rate: Rate = "6/m:2".parse().unwrap();
    let registry = registry(|limits| limits.session_rate_per_user = Some(rate));
    for number in 0..2 {
        registry.add(&of("ann", "a", number)).unwrap();
    }
    registry.add(&of("bob", "a", 2)).unwrap();
    let over = registry.add(&entry(3)).unwrap_err();
    let text = "too many new sessions of user \"ann\": the server's limit session-rate-per-user is 6/m:2";
    assert_eq!(over.to_string(), text);
    let status = super::super::answer::Refusal::from(&over).0;
    let seconds = status.details.as_ref().map(|details| details.retry_after_seconds);
    assert_eq!((status.code, status.reason.as_str(), seconds), (429, "TooManyRequests", Some(10)));
    tokio::time::advance(Duration::from_secs(10)).await;
    registry.add(&entry(4)).unwrap();
    registry.add(&entry(5)).unwrap_err();
}

#[tokio::test]
async fn sessions_are_listed_in_order_and_ended_by_number() {
    let registry = registry(|_| {});
    let (one, two) = (entry(1), entry(2));
    registry.add(&two).unwrap();
    registry.add(&one).unwrap();
    one.meter.add_output(7);
    assert!(!registry.end(3, by_operator()));
    assert!(registry.end(2, by_operator()));
    let list = registry.list();
    let shown: Vec<_> = list.iter().map(|info| (info.number, info.bytes.output, info.ending)).collect();
    assert_eq!(shown, [(1, 7, false), (2, 0, true)]);
    assert_eq!((list[0].user.as_str(), &list[0].groups[..]), ("ann", &["ops".to_owned()][..]));
    assert_eq!(list[0].protocol, "websocket v5.channel.k8s.io");
    assert!(matches!(two.detached(Duration::MAX).await, Cause::Operator(why) if why == "done"));
    registry.remove(&one);
    assert_eq!(registry.entries().len(), 1);
}

#[tokio::test]
async fn a_session_that_begins_while_the_server_ends_is_ended_too() {
    let registry = registry(|_| {});
    let early = entry(1);
    registry.add(&early).unwrap();
    let shutdown = Given { grace: Duration::ZERO, cause: Cause::Shutdown };
    registry.end_all(&shutdown);
    let late = entry(2);
    registry.add(&late).unwrap();
    for entry in [early, late] {
        assert_eq!(entry.order.given(), Some(&shutdown));
    }
}
