//! A participant of the tests: one WebSocket, JSON in and out.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use harness::Service;
use serde_json::{Value, json};
use tungstenite::client::ClientRequestBuilder;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

/// Longer than anything the hub waits for, but for the pings.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A hub on a port of the kernel's choice; it trusts loopback as proxy, which is its default.
pub fn hub() -> Service {
    hub_with(&[])
}

pub fn hub_with(settings: &[(&str, &str)]) -> Service {
    let settings = [&[("HUB__LISTEN", "[::]:0")], settings].concat();
    Service::start(env!("CARGO_BIN_EXE_hub"), &settings)
}

/// The port in the hub's address.
pub fn port(hub: &Service) -> u16 {
    hub.address(0).rsplit_once(':').unwrap().1.parse().unwrap()
}

pub struct Peer {
    pub socket: WebSocket<TcpStream>,
    last_id: u64,
    inbox: VecDeque<Value>,
}

impl Peer {
    pub fn new(hub: &Service) -> Self {
        Self::with_fields(hub, &[])
    }

    /// Behind a proxy that says `address`.
    pub fn at(hub: &Service, address: &str) -> Self {
        Self::with_fields(hub, &[("X-Forwarded-For", address)])
    }

    pub fn with_fields(hub: &Service, fields: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port(hub))).unwrap();
        Self::over(stream, fields)
    }

    pub fn over(stream: TcpStream, fields: &[(&str, &str)]) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = ClientRequestBuilder::new("ws://hub/ws".parse().unwrap());
        for (name, value) in fields {
            request = request.with_header(*name, *value);
        }
        let (socket, _) = tungstenite::client(request, stream).unwrap();
        Self { socket, last_id: 0, inbox: VecDeque::new() }
    }

    pub fn send(&mut self, message: &Value) {
        self.send_bytes(message.to_string().as_bytes());
    }

    pub fn send_bytes(&mut self, message: &[u8]) {
        self.socket.send(Message::binary(message.to_vec())).unwrap();
    }

    /// Sends all of them in one TCP segment.
    pub fn send_together(&mut self, messages: &[Value]) {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend(frame(0x82, message.to_string().as_bytes()));
        }
        self.socket.get_mut().write_all(&bytes).unwrap();
    }

    /// Starts a call; gives its id.
    pub fn start(&mut self, method: &str, params: &Value) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// The next message; the hub sends binary frames and nothing else.
    pub fn receive(&mut self) -> Value {
        if let Some(message) = self.inbox.pop_front() {
            return message;
        }
        self.read()
    }

    fn read(&mut self) -> Value {
        loop {
            match self.socket.read().expect("the hub says something") {
                Message::Binary(bytes) => return serde_json::from_slice(&bytes).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }

    /// The reply to a call; what comes before it is kept.
    pub fn reply(&mut self, id: u64) -> Result<Value, String> {
        let is_reply = |message: &Value| message["id"] == id && message.get("method").is_none();
        let kept = self.inbox.iter().position(is_reply);
        let mut reply = match kept.and_then(|index| self.inbox.remove(index)) {
            Some(reply) => reply,
            None => loop {
                let message = self.read();
                if is_reply(&message) {
                    break message;
                }
                self.inbox.push_back(message);
            },
        };
        assert_eq!(reply["jsonrpc"], "2.0");
        match reply.get_mut("error") {
            None => Ok(reply["result"].take()),
            Some(error) => {
                assert!(error["data"]["traceback"].is_string(), "the clients show it: {error}");
                Err(error["message"].as_str().unwrap().to_owned())
            }
        }
    }

    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, String> {
        let id = self.start(method, params);
        self.reply(id)
    }

    /// Nothing more was said: the reply to one more call is the next message.
    pub fn hears_nothing(&mut self) {
        let id = self.start("get_reservations", &json!([]));
        let next = self.receive();
        assert!(next["id"] == id && next.get("method").is_none(), "expected nothing, heard {next}");
    }

    /// Reads up to the close frame.
    pub fn closed(&mut self) -> CloseCode {
        loop {
            match self.socket.read() {
                Ok(Message::Close(Some(close))) => return close.code,
                Ok(_) => {}
                Err(error) => panic!("no close frame: {error}"),
            }
        }
    }

    /// Closes, and waits until the hub has forgotten everything.
    pub fn leave(mut self) {
        self.socket.close(None).unwrap();
        loop {
            match self.socket.read() {
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Registers a place called `name`.
    pub fn export(&mut self, name: &str) -> u64 {
        self.call("register_place", &json!([place(name)])).unwrap().as_u64().unwrap()
    }

    /// The addresses that the hub asks this exporter to admit, and the id of the call.
    pub fn asked(&mut self) -> (Value, Value) {
        let mut call = self.receive();
        assert_eq!(
            (&call["method"], &call["jsonrpc"]),
            (&json!("set_allowed_ips"), &json!("2.0")),
            "{call}"
        );
        (call["params"].take(), call["id"].take())
    }

    /// Answers such a call.
    pub fn confirm(&mut self, id: &Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "result": null}));
    }

    /// Is asked to admit exactly these, and does.
    pub fn admits(&mut self, addresses: &[&str]) {
        let (params, id) = self.asked();
        assert_eq!(params, json!([addresses]));
        self.confirm(&id);
    }

    /// Reserves a place that is free; its exporter confirms.
    pub fn holds(&mut self, exporter: &mut Self, place: u64) {
        let id = self.start("reserve", &json!([[place]]));
        let (_, call) = exporter.asked();
        exporter.confirm(&call);
        assert_eq!(self.reply(id), Ok(json!(place)));
    }
}

/// A description of a place.
pub fn place(name: &str) -> Value {
    json!({"name": name, "port": 29201, "parts": [{"compatible": ["demo"], "tcp": {"web": {"host": "h", "port": 80}}}]})
}

/// A masked frame, RFC 6455 §5.2; the mask is zero.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A gauge of `/metrics`.
pub fn gauge(hub: &Service, name: &str) -> u64 {
    let metrics = harness::get(&hub.url("/metrics"), &[]);
    let line = metrics.text().lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Requests in the queue.
pub fn waiting(hub: &Service) -> u64 {
    gauge(hub, "not_my_board_reservation_queue_length")
}

/// The listing.
pub fn places(hub: &Service) -> Value {
    let listing = harness::get(&hub.url("/api/v1/places"), &[]);
    assert_eq!(listing.status, 200);
    serde_json::from_str::<Value>(listing.text()).unwrap()["places"].take()
}
