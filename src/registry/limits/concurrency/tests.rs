//! Tests of the concurrency limiter: shares, order, rates, pauses, and the limit that adapts.

use std::pin::Pin;

use futures_util::FutureExt as _;

use super::*;
use crate::registry::{LimitSetting, Limits, Rate};

type Entering<'a> = Pin<Box<dyn Future<Output = Permit> + 'a>>;

/// Queues a request, and asserts that the request must wait for its permit.
fn queue(limiter: &ConcurrencyLimiter, request: RequestClass) -> Entering<'_> {
    let mut entering: Entering<'_> = Box::pin(entered(limiter, Tenant::default(), request));
    assert!(entering.as_mut().now_or_never().is_none(), "{request:?} enters at once");
    entering
}

fn limits(concurrent: usize) -> LimitsInForce {
    let limits = Limits { concurrent: LimitSetting::Set(concurrent), ..Limits::default() };
    limits.in_force(&"a.example".parse().unwrap(), None)
}

fn limiter(concurrent: usize) -> ConcurrencyLimiter {
    ConcurrencyLimiter::new(&limits(concurrent))
}

async fn entered(limiter: &ConcurrencyLimiter, tenant: Tenant, request: RequestClass) -> Permit {
    let class = CLASSES.iter().find(|(known, _)| *known == request).map_or(Class::Read, |(_, class)| *class);
    limiter.enter(tenant, request, class).await.0
}

fn enter(limiter: &ConcurrencyLimiter, request: RequestClass) -> Option<Permit> {
    entered(limiter, Tenant::default(), request).now_or_never()
}

#[test]
fn blob_reads_leave_a_permit_for_a_write() {
    let limiter = limiter(3);
    let read = || enter(&limiter, RequestClass::BlobRead);
    let (first, second) = (read().unwrap(), read().unwrap());
    assert!(read().is_none());
    let write = enter(&limiter, RequestClass::Common).unwrap();
    assert!(enter(&limiter, RequestClass::Common).is_none());
    assert!(enter(&limiter, RequestClass::BlobResumed).is_some());
    drop((first, write));
    assert!(read().is_some());
    drop(second);
}

#[test]
fn resumed_read_leaves_the_last_permit_for_a_write() {
    let limiter = limiter(2);
    let _read = enter(&limiter, RequestClass::BlobRead).unwrap();
    let _resumed = enter(&limiter, RequestClass::BlobResumed).unwrap();
    assert!(enter(&limiter, RequestClass::Continued).is_some());
}

#[test]
fn copy_within_a_registry_works_with_one_permit() {
    let limiter = limiter(1);
    let _read = enter(&limiter, RequestClass::BlobRead).unwrap();
    let _write = enter(&limiter, RequestClass::Common).unwrap();
    assert!(enter(&limiter, RequestClass::Common).is_none());
    assert!(enter(&limiter, RequestClass::BlobRead).is_none());
}

#[test]
fn waiting_requests_enter_in_order_of_arrival() {
    let limiter = limiter(2);
    let held = [(); 2].map(|()| enter(&limiter, RequestClass::Common).unwrap());
    let requests = [
        RequestClass::Common,
        RequestClass::BlobRead,
        RequestClass::Common,
        RequestClass::BlobRead,
        RequestClass::Common,
    ];
    let mut waiting: Vec<_> = requests.into_iter().map(|request| Some(queue(&limiter, request))).collect();
    let [keep, first] = held;
    drop(first);
    let mut order = Vec::new();
    while order.len() < requests.len() {
        let open = waiting.iter_mut().enumerate().filter_map(|(at, entering)| Some((at, entering.as_mut()?)));
        let entered: Vec<(usize, Permit)> =
            open.filter_map(|(at, entering)| Some((at, entering.as_mut().now_or_never()?))).collect();
        assert_eq!(entered.len(), 1, "one free permit admits one request");
        waiting[entered[0].0] = None;
        order.push(entered[0].0);
    }
    assert_eq!(order, [0, 1, 2, 3, 4]);
    drop(keep);
}

#[test]
fn tenants_enter_in_turn_in_all_classes() {
    let limiter = limiter(2);
    let (keep, first) =
        (enter(&limiter, RequestClass::Common).unwrap(), enter(&limiter, RequestClass::Common).unwrap());
    let (big, small) = (Tenant::from_name("big"), Tenant::from_name("small"));
    let requests = [
        (big, RequestClass::BlobRead),
        (big, RequestClass::Common),
        (big, RequestClass::BlobRead),
        (small, RequestClass::Common),
        (small, RequestClass::Common),
    ];
    let mut waiting: Vec<_> =
        requests.into_iter().map(|(tenant, request)| Some(Box::pin(entered(&limiter, tenant, request)))).collect();
    for entering in waiting.iter_mut().flatten() {
        assert!(entering.as_mut().now_or_never().is_none());
    }
    drop(first);
    let mut order = Vec::new();
    while order.len() < requests.len() {
        let at = waiting
            .iter_mut()
            .position(|slot| slot.as_mut().is_some_and(|entering| entering.as_mut().now_or_never().is_some()));
        let at = at.expect("a freed permit admits one request");
        waiting[at] = None;
        order.push(at);
    }
    assert_eq!(order, [0, 3, 1, 4, 2]);
    drop(keep);
}

#[test]
fn slow_uploads_leave_slots_and_first_upload_always_starts() {
    let uploads = |limiter: &ConcurrencyLimiter, name: &str| -> Vec<Permit> {
        let tenant = Tenant::from_name(name);
        std::iter::from_fn(|| entered(limiter, tenant, RequestClass::Continued).now_or_never()).collect()
    };
    for (limit, expected) in [(32, [28, 3, 1]), (8, [7, 1, 0]), (4, [3, 1, 0]), (2, [1, 1, 0]), (1, [1, 0, 0])] {
        let limiter = limiter(limit);
        let held = ["a", "b", "c"].map(|name| uploads(&limiter, name));
        assert_eq!(held.each_ref().map(Vec::len), expected, "{limit}");
    }
}

#[test]
fn other_tenant_passes_a_tenant_with_a_full_share() {
    let limiter = limiter(4);
    let (slow, quick) = (Tenant::from_name("slow"), Tenant::from_name("quick"));
    let mut held: Vec<_> =
        (0..3).map(|_| entered(&limiter, slow, RequestClass::Continued).now_or_never().unwrap()).collect();
    let mut more: Entering<'_> = Box::pin(entered(&limiter, slow, RequestClass::Continued));
    assert!(more.as_mut().now_or_never().is_none());
    for _ in 0..3 {
        entered(&limiter, quick, RequestClass::Continued).now_or_never().expect("another tenant gets a slot");
    }
    held.pop();
    assert!(more.as_mut().now_or_never().is_some());
}

#[test]
fn changed_limit_applies_immediately() {
    let limiter = limiter(2);
    let held = [(); 2].map(|()| enter(&limiter, RequestClass::Common).unwrap());
    let mut waiting = [queue(&limiter, RequestClass::Common), queue(&limiter, RequestClass::Common)];
    limiter.set_limits(&limits(3));
    let third = waiting[0].as_mut().now_or_never().unwrap();
    assert!(waiting[1].as_mut().now_or_never().is_none());
    limiter.set_limits(&limits(1));
    drop(held);
    assert!(waiting[1].as_mut().now_or_never().is_none());
    drop(third);
    assert!(waiting[1].as_mut().now_or_never().is_some());
}

#[test]
fn lowered_limit_is_not_raised_by_new_configuration() {
    let limiter = limiter(8);
    limiter.throttled(enter(&limiter, RequestClass::Common).unwrap().number());
    limiter.set_limits(&limits(20));
    assert_eq!(limit(&limiter), 4);
    limiter.set_limits(&limits(2));
    assert_eq!(limit(&limiter), 2);
}

#[test]
fn started_uploads_enter_before_all_other_requests() {
    let limiter = limiter(2);
    let (first, _second) =
        (enter(&limiter, RequestClass::Common).unwrap(), enter(&limiter, RequestClass::Common).unwrap());
    let mut read = queue(&limiter, RequestClass::BlobRead);
    let mut common = queue(&limiter, RequestClass::Common);
    let mut continued = [queue(&limiter, RequestClass::Continued), queue(&limiter, RequestClass::Continued)];
    drop(first);
    assert!(read.as_mut().now_or_never().is_none() && common.as_mut().now_or_never().is_none());
    assert!(continued[1].as_mut().now_or_never().is_none());
    drop(continued[0].as_mut().now_or_never().unwrap());
    drop(continued[1].as_mut().now_or_never().unwrap());
    drop(read.now_or_never().unwrap());
    assert!(common.now_or_never().is_some());
}

#[test]
fn waiting_blob_read_delays_no_other_request() {
    let limiter = limiter(3);
    let reads = [(); 2].map(|()| enter(&limiter, RequestClass::BlobRead).unwrap());
    let mut third = queue(&limiter, RequestClass::BlobRead);
    let write = enter(&limiter, RequestClass::Common).unwrap();
    let mut next = queue(&limiter, RequestClass::Common);
    drop(write);
    assert!(third.as_mut().now_or_never().is_none());
    assert!(next.as_mut().now_or_never().is_some());
    drop(reads);
    assert!(third.now_or_never().is_some());
}

#[test]
fn cancelled_request_passes_its_turn_on() {
    let limiter = limiter(1);
    let held = enter(&limiter, RequestClass::Common).unwrap();
    let [gone, granted, mut last] = [(); 3].map(|()| queue(&limiter, RequestClass::Common));
    drop(gone);
    drop(held);
    // The second request has the permit, but no task polls that request.
    assert!(last.as_mut().now_or_never().is_none());
    drop(granted);
    let permit = last.now_or_never().unwrap();
    assert!(enter(&limiter, RequestClass::Common).is_none());
    drop(permit);
    assert!(enter(&limiter, RequestClass::Common).is_some());
    assert_eq!(limiter.0.with_resource(|state| (state.others, state.reads)), (0, 0));
}

fn with_rate(concurrent: usize, writes: u32) -> ConcurrencyLimiter {
    let writes = LimitSetting::Set(Rate { count: writes, per: Duration::from_secs(3600) });
    let limits = Limits { concurrent: LimitSetting::Set(concurrent), writes, ..Limits::default() };
    ConcurrencyLimiter::new(&limits.in_force(&"a.example".parse().unwrap(), None))
}

#[test]
fn priority_of_each_class_matches_the_table() {
    for (priority, (request, class)) in CLASSES.into_iter().enumerate() {
        assert_eq!(request.priority(class), priority, "{request:?} {class:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn request_waiting_for_a_rate_holds_no_permit() {
    let limiter = with_rate(2, 10);
    let write = || limiter.enter(Tenant::default(), RequestClass::Common, Class::Write);
    drop(write().await);
    let mut waiting = [(); 5].map(|()| Box::pin(write()));
    for entering in &mut waiting {
        assert!(entering.as_mut().now_or_never().is_none());
    }
    let reads = [(); 2].map(|()| enter(&limiter, RequestClass::Common).unwrap());
    assert!(enter(&limiter, RequestClass::Common).is_none());
    drop(reads);
    let (_, waited) = waiting[0].as_mut().await;
    assert_eq!(waited.as_secs(), 360);
}

#[tokio::test(start_paused = true)]
async fn request_waiting_for_a_permit_uses_no_rate() {
    let limiter = with_rate(1, 10);
    let held = enter(&limiter, RequestClass::Common).unwrap();
    let mut gone = Box::pin(limiter.enter(Tenant::default(), RequestClass::Common, Class::Write));
    assert!(gone.as_mut().now_or_never().is_none());
    drop((gone, held));
    assert!(limiter.enter(Tenant::default(), RequestClass::Common, Class::Write).now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn entries_share_a_rate_fairly_with_many_permits() {
    let limiter = with_rate(1000, 3600);
    for _ in 0..32 {
        drop(limiter.enter(Tenant::default(), RequestClass::Common, Class::Write).await);
    }
    let (sender, mut went) = tokio::sync::mpsc::unbounded_channel();
    for name in std::iter::repeat_n("big", 100).chain(["small"; 2]) {
        let (limiter, sender) = (limiter.clone(), sender.clone());
        tokio::spawn(async move {
            drop(limiter.enter(Tenant::from_name(name), RequestClass::Common, Class::Write).await);
            sender.send(name).unwrap();
        });
        tokio::task::yield_now().await;
    }
    let first: Vec<_> = [went.recv().await, went.recv().await, went.recv().await, went.recv().await].into();
    assert_eq!(first, [Some("big"), Some("small"), Some("big"), Some("small")]);
}

#[tokio::test(start_paused = true)]
async fn pause_holds_all_requests_and_is_never_shortened() {
    let limiter = limiter(4);
    let began = Instant::now();
    limiter.pause(Duration::from_secs(30));
    limiter.pause(Duration::from_secs(1));
    assert!(limiter.is_paused());
    let all = CLASSES.map(|(request, class)| limiter.enter(Tenant::default(), request, class));
    let entered = futures_util::future::join_all(all.map(|entering| async { drop(entering.await) }));
    entered.await;
    assert!(began.elapsed() >= Duration::from_secs(30) && began.elapsed() < Duration::from_secs(31));
    assert!(!limiter.is_paused());
    assert_eq!(limiter.enter(Tenant::default(), RequestClass::Common, Class::Read).await.1, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn pause_holds_requests_that_wait_for_a_rate() {
    let limiter = with_rate(4, 10);
    drop(limiter.enter(Tenant::default(), RequestClass::Common, Class::Write).await);
    let waiting = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.enter(Tenant::default(), RequestClass::Common, Class::Write).await.1 }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    limiter.pause(Duration::from_secs(600));
    assert_eq!(waiting.await.unwrap().as_secs(), 605);
}

fn limit(limiter: &ConcurrencyLimiter) -> usize {
    limiter.0.with_resource(|state| state.limit)
}

#[test]
fn limit_is_halved_once_per_burst_down_to_one() {
    let limiter = limiter(10);
    let burst: Vec<Permit> = (0..10).map(|_| enter(&limiter, RequestClass::Common).unwrap()).collect();
    assert_eq!(limiter.throttled(burst[3].number()), Some(5));
    for permit in &burst {
        assert_eq!(limiter.throttled(permit.number()), None);
    }
    drop(burst);
    for limits in [(5, Some(2)), (2, Some(1)), (1, None), (1, None)] {
        let permit = enter(&limiter, RequestClass::Common).unwrap();
        assert_eq!((limit(&limiter), limiter.throttled(permit.number())), limits);
    }
    assert_eq!(limit(&limiter), 1);
}

#[test]
fn successes_raise_the_limit_up_to_the_configured_one() {
    let limiter = limiter(8);
    let late = enter(&limiter, RequestClass::Common).unwrap();
    limiter.throttled(enter(&limiter, RequestClass::Common).unwrap().number());
    let limits: Vec<usize> = (0..30)
        .map(|_| {
            // The client sent this request before the limiter halved the limit, so the response does not count.
            limiter.answered(late.number());
            limiter.answered(enter(&limiter, RequestClass::Common).unwrap().number());
            limit(&limiter)
        })
        .collect();
    let expected = [[4; 3].as_slice(), &[5; 5], &[6; 6], &[7; 7], &[8; 9]].concat();
    assert_eq!(limits, expected);
}

#[test]
fn successes_before_a_burst_do_not_count_after_it() {
    let limiter = limiter(8);
    let through = |success: bool| {
        let number = enter(&limiter, RequestClass::Common).unwrap().number();
        if success {
            limiter.answered(number);
        } else {
            limiter.throttled(number);
        }
        limit(&limiter)
    };
    let answers = [false, true, true, true, false, true, false, true, true];
    assert_eq!(answers.map(through), [4, 4, 4, 4, 2, 2, 1, 2, 2]);
}

#[test]
fn lowered_limit_admits_nobody_and_raised_limit_does() {
    let limiter = limiter(4);
    let mut held: Vec<Permit> = (0..4).map(|_| enter(&limiter, RequestClass::Common).unwrap()).collect();
    assert_eq!(limiter.throttled(held[0].number()), Some(2));
    let mut waiting = queue(&limiter, RequestClass::Common);
    held.truncate(2);
    assert!(waiting.as_mut().now_or_never().is_none());
    held.truncate(1);
    let first = waiting.now_or_never().unwrap();
    let mut waiting = queue(&limiter, RequestClass::Common);
    limiter.answered(first.number());
    limiter.answered(first.number());
    assert!(waiting.as_mut().now_or_never().is_some());
}

#[test]
fn write_enters_while_reads_exceed_a_lowered_limit() {
    let limiter = limiter(4);
    let reads = [(); 3].map(|()| enter(&limiter, RequestClass::BlobRead).unwrap());
    limiter.throttled(reads[0].number());
    assert_eq!(limit(&limiter), 2);
    let write = enter(&limiter, RequestClass::Continued).unwrap();
    assert!(enter(&limiter, RequestClass::Common).is_none());
    drop(write);
    assert!(enter(&limiter, RequestClass::Common).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_waiter_is_lost_under_many_cancellations() {
    let limiter = Arc::new(limiter(3));
    let requests = [RequestClass::Common, RequestClass::BlobRead, RequestClass::Continued, RequestClass::BlobResumed];
    let tasks = (0..400_usize).map(|n| {
        let limiter = Arc::clone(&limiter);
        tokio::spawn(async move {
            for round in 0..50 {
                let tenant = Tenant::from_name(["a", "b", "c"][n % 3]);
                let entering = entered(&limiter, tenant, requests[(n + round) % requests.len()]);
                // Every third request is cancelled after one poll.
                let permit = if (n + round) % 3 == 0 { entering.now_or_never() } else { Some(entering.await) };
                tokio::task::yield_now().await;
                drop(permit);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(limiter.0.with_resource(|state| (state.others, state.reads)), (0, 0));
    assert!(limiter.0.is_empty());
}
