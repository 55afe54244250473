//! A browser, driven over WebDriver: as much of it as the tests need.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A Chromium of its own, until it is dropped.
pub struct Browser {
    driver: String,
    session: String,
    /// Where the service is, without a slash at its end.
    pub home: String,
    /// So many things were clicked.
    pub clicks: std::cell::Cell<usize>,
    /// The pages that were read, with how many words each has.
    read: std::cell::RefCell<Vec<(String, usize)>>,
}

impl Browser {
    pub fn open(home: String, scripts: bool) -> Self {
        let driver = std::env::var("AFTERIMAGE_TEST_CHROMEDRIVER")
            .expect("no chromedriver for the tests: run them by `cargo xtask browser`, which starts one");
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
            // What the pages bring along is not run then; what the tests ask for is.
            "prefs": if scripts { json!({}) } else { json!({"profile.managed_default_content_settings.javascript": 2}) },
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let begun = ask(&driver, "POST", "/session", &wanted);
        let session = begun["sessionId"].as_str().expect("a session").to_owned();
        Self { driver, session, home, clicks: Default::default(), read: Default::default() }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        ask(&self.driver, method, &format!("/session/{}{path}", self.session), body)
    }

    pub fn cdp(&self, command: &str, parameters: &Value) -> Value {
        self.ask("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// As wide as that, light or dark.
    pub fn look(&self, width: u32, dark: bool) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500});
        self.cdp("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.cdp("Emulation.setEmulatedMedia", &media);
    }

    pub fn go(&self, path: &str) {
        self.ask("POST", "/url", &json!({"url": format!("{}{path}", self.home)}));
        self.reads();
    }

    /// Counts the words of a page, where it is another than before.
    fn reads(&self) {
        let path = self.path();
        let mut read = self.read.borrow_mut();
        if read.last().is_none_or(|(last, _)| *last != path) {
            // What is seen: neither what is said to screen readers alone, nor choices that are folded away.
            let words = self.run(
                "const words = (e) => (e.innerText ?? '').split(/\\s+/).filter(Boolean).length; const main = document.querySelector('main'); return words(main) - [...main.querySelectorAll('.sr, option')].reduce((sum, e) => sum + words(e), 0)",
            );
            read.push((path, usize::try_from(words.as_i64().unwrap_or_default()).unwrap_or_default()));
        }
    }

    /// So many things were clicked, pages and words read since this was asked last.
    pub fn effort(&self) -> (usize, usize, usize) {
        let read = self.read.take();
        (self.clicks.take(), read.len(), read.iter().map(|(_, words)| words).sum())
    }

    /// Where it is, below the service.
    pub fn path(&self) -> String {
        let url = self.ask("GET", "/url", &Value::Null);
        url.as_str().unwrap_or_default().strip_prefix(&self.home).unwrap_or_default().to_owned()
    }

    pub fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Runs a script that calls its last argument when it is done.
    pub fn run_async(&self, script: &str) -> Value {
        self.ask("POST", "/execute/async", &json!({"script": script, "args": []}))
    }

    fn element(&self, selector: &str) -> String {
        let found = self.ask("POST", "/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("no {selector} on {}", self.path())).to_owned()
    }

    /// Clicks on what a person would see there.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.ask("POST", &format!("/element/{element}/click"), &json!({}));
        self.clicks.set(self.clicks.get() + 1);
    }

    /// Ticks what is inside `details` that are open for people by the stylesheet, and closed for the driver.
    pub fn tick(&self, selector: &str) {
        let seen = format!(
            "const e = document.querySelector({selector:?}); return e.getBoundingClientRect().height > 0"
        );
        assert_eq!(self.run(&seen), json!(true), "{selector} cannot be seen on {}", self.path());
        self.run(&format!("document.querySelector({selector:?}).click()"));
        self.clicks.set(self.clicks.get() + 1);
    }

    /// Clicks on the first link or button of these words.
    pub fn press(&self, words: &str) {
        let mark = format!(
            "for (const e of document.querySelectorAll('a, button, summary')) if (e.innerText.replace(/\\s+/g, ' ').trim().startsWith({words:?}) && e.offsetParent) {{ e.setAttribute('data-pressed', ''); return true }} return false"
        );
        assert_eq!(self.run(&mark), json!(true), "nothing to press says {words:?} on {}", self.path());
        self.click("[data-pressed]");
    }

    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.ask("POST", &format!("/element/{element}/value"), &json!({"text": text}));
    }

    /// Presses keys wherever it is.
    pub fn keys(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
            })
            .collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": actions});
        self.ask("POST", "/actions", &json!({ "actions": [keyboard] }));
    }

    /// The text of a page, as a person reads it.
    pub fn text(&self) -> String {
        let text = self.run("return document.querySelector('main').innerText.replace(/\\s+/g, ' ')");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a page says something.
    pub fn wait_for(&self, words: &str) {
        self.wait(&format!("the page to say {words:?}"), || self.text().contains(words));
        self.reads();
    }

    pub fn wait(&self, what: &str, is: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "waited for {what} on {}:\n{}",
                self.path(),
                self.text()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// What the browser complained of since it was asked last, but for answers that are no success.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().cloned().unwrap_or_default();
        let text = |line: &Value| line["message"].as_str().unwrap_or_default().to_owned();
        lines
            .iter()
            .map(text)
            .filter(|line| !line.contains("the server responded with a status of 4"))
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.ask("DELETE", "", &Value::Null);
        }
    }
}

/// One request to the driver.
fn ask(driver: &str, method: &str, path: &str, body: &Value) -> Value {
    let address = driver.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).expect("chromedriver answers");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 65536];
    // It may keep the connection open all the same.
    loop {
        let read = stream.read(&mut chunk).unwrap();
        answer.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if read == 0 || length.is_some_and(|length: usize| body.len() >= length) {
            let answer: Value = serde_json::from_str(body).unwrap_or(Value::Null);
            let value = answer["value"].clone();
            if let Some(error) = value.get("error").and_then(Value::as_str) {
                panic!("{method} {path}: {error}: {}", value["message"]);
            }
            return value;
        }
    }
}
