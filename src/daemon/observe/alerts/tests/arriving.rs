//! The sending of messages, against a real HTTP server with scripted responses.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use parking_lot::Mutex;
use serde_json::Value;

use super::*;
use crate::io::Random;
use crate::io::http::HttpClient;

/// Responses in order; when they are used up, 200.
#[derive(Clone, Default)]
struct Webhook {
    responses: Arc<Mutex<VecDeque<Scripted>>>,
    bodies: Arc<Mutex<Vec<Value>>>,
}

enum Scripted {
    Status(u16, &'static str),
    RetryAfter(&'static str),
    Silence,
}

impl Webhook {
    async fn serve(responses: impl IntoIterator<Item = Scripted>) -> (Webhook, String) {
        let webhook =
            Webhook { responses: Arc::new(Mutex::new(responses.into_iter().collect())), ..Webhook::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/services/T0/B0/secret-path", listener.local_addr().unwrap());
        let here = webhook.clone();
        let handler = any(move |headers: HeaderMap, body: Bytes| async move { here.respond(&headers, &body).await });
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        (webhook, url)
    }

    async fn respond(&self, headers: &HeaderMap, body: &Bytes) -> Response {
        assert_eq!(headers["content-type"], "application/json");
        self.bodies.lock().push(serde_json::from_slice(body).unwrap());
        let response = self.responses.lock().pop_front();
        match response {
            None => "ok".into_response(),
            Some(Scripted::Status(status, body)) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
            Some(Scripted::RetryAfter(value)) => {
                (StatusCode::TOO_MANY_REQUESTS, [("retry-after", value)]).into_response()
            }
            Some(Scripted::Silence) => std::future::pending().await,
        }
    }

    fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().clone()
    }
}

/// A clock that sleeping moves.
#[derive(Default)]
struct Leaping(Mutex<Vec<Duration>>);

impl Leaping {
    fn slept(&self) -> Vec<Duration> {
        self.0.lock().clone()
    }
}

#[async_trait::async_trait]
impl Clock for Leaping {
    fn now(&self) -> DateTime<Utc> {
        at(1) + self.elapsed()
    }

    fn elapsed(&self) -> Duration {
        self.0.lock().iter().sum()
    }

    async fn sleep(&self, duration: Duration) {
        self.0.lock().push(duration);
        tokio::task::yield_now().await;
    }
}

/// Sends until nothing waits.
async fn sent(sender: &AlertSender, clock: &Leaping) {
    let (http_client, random) = (HttpClient::new().unwrap(), Random::seeded(7));
    let all = async {
        tokio::select! {
            () = sender.send(&http_client, clock, &random) => unreachable!("sends for ever"),
            () = sender.sent() => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("everything is sent or given up");
}

fn target(url: &str, format: &str) -> AlertWebhook {
    AlertWebhook::of(&settings(url, format)).unwrap().unwrap()
}

fn messages(count: usize) -> Vec<AlertMessage> {
    let message = |number| {
        let mut run = failed(0, "destination");
        run.run.sync = format!("sync-{number}");
        AlertState::default().run_ended(&ended(&run), 0).unwrap()
    };
    (0..count).map(message).collect()
}

#[tokio::test]
async fn slack_and_json_bodies_arrive_in_order() {
    for format in ["slack", "json"] {
        let (webhook, url) = Webhook::serve([]).await;
        let sender = AlertSender::new(Some(target(&url, format)));
        sender.queue(messages(3));
        let clock = Leaping::default();
        sent(&sender, &clock).await;
        let bodies = webhook.bodies();
        assert_eq!(bodies.len(), 3);
        for (number, body) in bodies.iter().enumerate() {
            let title = format!("sync-{number} → crm: runs fail (destination)");
            match format {
                "slack" => assert!(body["text"].as_str().unwrap().starts_with(&title.replace('>', "&gt;")), "{body}"),
                _ => assert_eq!((&body["title"], &body["event"]), (&title.into(), &"failed".into())),
            }
        }
        assert_eq!((sender.sent_and_dropped(), clock.slept().len()), ((3, 0), 0));
    }
}

#[tokio::test]
async fn what_fails_is_said_again() {
    let responses = [Scripted::Status(500, "oops"), Scripted::Status(503, ""), Scripted::Status(408, "")];
    let (webhook, url) = Webhook::serve(responses).await;
    let sender = AlertSender::new(Some(target(&url, "json")));
    sender.queue(messages(1));
    let clock = Leaping::default();
    sent(&sender, &clock).await;
    let bodies = webhook.bodies();
    assert_eq!(bodies.len(), 4);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "the same message each time");
    assert_eq!((sender.sent_and_dropped(), clock.slept().len()), ((1, 0), 3));
}

#[tokio::test]
async fn the_webhooks_wish_to_wait_wins_up_to_ten_minutes() {
    let (webhook, url) = Webhook::serve([Scripted::RetryAfter("30"), Scripted::RetryAfter("86400")]).await;
    let sender = AlertSender::new(Some(target(&url, "slack")));
    sender.queue(messages(1));
    let clock = Leaping::default();
    sent(&sender, &clock).await;
    let seconds: Vec<u64> = clock.slept().iter().map(Duration::as_secs).collect();
    assert_eq!((seconds, webhook.bodies().len()), (vec![30, 600], 3));
}

#[tokio::test]
async fn a_webhook_that_will_never_take_it_is_not_asked_again() {
    for response in
        [Scripted::Status(404, "no_service"), Scripted::Status(400, "invalid_payload"), Scripted::Status(302, "")]
    {
        let (webhook, url) = Webhook::serve([response]).await;
        let sender = AlertSender::new(Some(target(&url, "slack")));
        sender.queue(messages(2));
        let clock = Leaping::default();
        sent(&sender, &clock).await;
        assert_eq!((webhook.bodies().len(), sender.sent_and_dropped(), clock.slept().len()), (2, (1, 1), 0));
    }
}

#[tokio::test]
async fn a_dead_webhook_drops_messages_after_an_hour_and_shows_no_url() {
    use tracing_subscriber::layer::SubscriberExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret-path", listener.local_addr().unwrap());
    drop(listener);
    let seen = Seen::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    let sender = AlertSender::new(Some(target(&url, "slack")));
    sender.queue(messages(2));
    let clock = Leaping::default();
    sent(&sender, &clock).await;
    assert_eq!(sender.sent_and_dropped(), (0, 2));
    let hour = Duration::from_secs(3_600);
    assert!((hour - Duration::from_secs(120)..=hour + Duration::from_secs(120)).contains(&clock.elapsed()));
    assert!((60..240).contains(&clock.slept().len()), "{} attempts", clock.slept().len());
    let lines = seen.0.lock().clone();
    let dropped: Vec<&String> = lines.iter().filter(|line| line.contains("the webhook did not accept it")).collect();
    assert_eq!(dropped.len(), 2, "{lines:?}");
    assert!(dropped[0].contains("failed to connect") && dropped[0].contains("[daemon.alerts]"), "{dropped:?}");
    assert!(lines.len() <= 4, "one line when it begins, one when it ends: {lines:?}");
    assert!(!lines.iter().any(|line| line.contains("secret-path") || line.contains("127.0.0.1")), "{lines:?}");
}

#[tokio::test]
async fn a_slow_webhook_is_retried() {
    let (webhook, url) = Webhook::serve([Scripted::Silence]).await;
    let sender = AlertSender::impatient(target(&url, "slack"), Duration::from_millis(100));
    sender.queue(messages(1));
    let clock = Leaping::default();
    sent(&sender, &clock).await;
    assert_eq!((webhook.bodies().len(), sender.sent_and_dropped()), (2, (1, 0)));
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest() {
    let (webhook, url) = Webhook::serve([]).await;
    let sender = AlertSender::new(Some(target(&url, "json")));
    sender.queue(messages(70));
    assert_eq!((sender.unsent().len(), sender.sent_and_dropped()), (64, (0, 6)));
    sent(&sender, &Leaping::default()).await;
    let bodies = webhook.bodies();
    assert_eq!((bodies.len(), &bodies[0]["sync"], &bodies[63]["sync"]), (64, &"sync-6".into(), &"sync-69".into()));
}

#[tokio::test]
async fn the_message_in_flight_is_not_the_one_that_a_full_queue_drops() {
    let (webhook, url) = Webhook::serve([Scripted::Silence]).await;
    let sender = AlertSender::impatient(target(&url, "json"), Duration::from_millis(200));
    sender.queue(messages(64));
    let clock = Leaping::default();
    let (http_client, random) = (HttpClient::new().unwrap(), Random::seeded(7));
    let more = async {
        while webhook.bodies().is_empty() {
            tokio::task::yield_now().await;
        }
        sender.queue(messages(1));
        sender.sent().await;
    };
    tokio::select! {
        () = sender.send(&http_client, &clock, &random) => unreachable!("sends for ever"),
        () = more => {}
    }
    let syncs: Vec<Value> = webhook.bodies().iter().map(|body| body["sync"].clone()).collect();
    assert_eq!(syncs[..3], ["sync-0", "sync-0", "sync-2"], "sync-1 made room");
    assert_eq!(sender.sent_and_dropped(), (64, 1));
}

#[tokio::test]
async fn another_webhook_takes_over_what_waits() {
    let (first, url) = Webhook::serve([Scripted::Status(500, ""), Scripted::Status(500, "")]).await;
    let (second, elsewhere) = Webhook::serve([]).await;
    let sender = AlertSender::new(Some(target(&url, "json")));
    sender.queue(messages(2));
    sender.set_target(Some(target(&elsewhere, "slack")));
    sent(&sender, &Leaping::default()).await;
    assert_eq!((first.bodies().len(), second.bodies().len()), (0, 2));
}

/// Every message and field that was logged.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Seen {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        if !event.metadata().target().starts_with("groupcast") {
            return;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().push(text.0);
    }
}
