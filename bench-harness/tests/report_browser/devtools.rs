//! A headless chromium, spoken to through the DevTools protocol over two pipes: no port, no socket, no further crate.
//!
//! With `--remote-debugging-pipe` the browser reads commands from descriptor 3 and writes answers and events to 4, each a
//! JSON text that ends in a zero byte.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long the browser may take for one answer, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Names under which the browser is installed.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The path of a browser that can be started.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let all = std::env::split_paths(&path).flat_map(|dir| NAMES.map(|name| dir.join(name)));
    all.into_iter().find(|p| p.is_file())
}

/// A browser with one page; it ends with this value.
pub struct Browser {
    child: Child,
    commands: File,
    messages: mpsc::Receiver<Value>,
    profile: PathBuf,
    session: String,
    last_id: u64,
    /// Everything the page and the browser reported unasked, in order.
    pub events: Vec<Value>,
}

impl Browser {
    /// Starts it with an empty page.
    pub fn start(program: &Path) -> Self {
        let profile =
            std::env::temp_dir().join(format!("bench-harness-chromium-{}", std::process::id()));
        let (from_us, commands) = std::io::pipe().unwrap();
        let (answers, to_us) = std::io::pipe().unwrap();
        // Above the descriptors they are to become, so that putting one in its place cannot close the other.
        let (from_us, to_us) = (high(from_us.into()), high(to_us.into()));
        let mut command = Command::new(program);
        command
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-extensions",
                "--hide-scrollbars",
            ])
            // The sandbox refuses to be set up by root, as whom CI often runs; the page is the test's own.
            .arg("--no-sandbox")
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let ends = (from_us.as_raw_fd(), to_us.as_raw_fd());
        // SAFETY: dup2 is async-signal-safe and touches nothing but descriptors of the child.
        unsafe {
            command.pre_exec(move || {
                for (from, to) in [(ends.0, 3), (ends.1, 4)] {
                    if libc::dup2(from, to) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let value = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            commands: File::from(OwnedFd::from(commands)),
            messages,
            profile,
            session: String::new(),
            last_id: 0,
            events: Vec::new(),
        };
        let target =
            browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": target, "flatten": true}),
        );
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends a command and waits for its answer; what comes in between is kept in `events`.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let text = message.to_string() + "\0";
        self.commands.write_all(text.as_bytes()).unwrap();
        let id = self.last_id;
        let answer = self.receive(method, |m| m["id"] == id);
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    /// Loads a file and waits until it is there.
    pub fn open(&mut self, file: &Path) {
        let url = format!("file://{}", file.display());
        let answer = self.call("Page.navigate", json!({ "url": url }));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        let loaded = |m: &Value| m["method"] == "Page.loadEventFired";
        if let Some(at) = self.events.iter().position(loaded) {
            self.events.remove(at);
            return;
        }
        self.receive("the page", loaded);
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true}),
        );
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].clone()
    }

    fn receive(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let message =
                message.unwrap_or_else(|e| panic!("no answer to {what} from the browser: {e}"));
            if wanted(&message) {
                return message;
            }
            if message["method"].is_string() {
                self.events.push(message);
            }
        }
    }
}

/// The same file under a descriptor of at least 10, closed when a program is started.
fn high(descriptor: OwnedFd) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: the descriptor is open; the copy is nobody else's.
    unsafe {
        let copy = libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10);
        assert!(copy >= 10, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(copy)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may be gone already; nothing is lost with its profile.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
