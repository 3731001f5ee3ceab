//! A member's peer URLs, of which one is in use until it fails.

use http::Uri;
use parking_lot::Mutex;

/// Picks a URL, and the next one when that is out of reach.
#[derive(Debug)]
pub(super) struct Urls {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    urls: Vec<Uri>,
    picked: usize,
}

impl Urls {
    /// From texts; those that are no absolute URLs are left out.
    pub(super) fn new(urls: &[String]) -> Urls {
        Urls {
            state: Mutex::new(State {
                urls: parse(urls),
                picked: 0,
            }),
        }
    }

    /// Replaces the URLs. Nothing changes if they are the same.
    pub(super) fn update(&self, urls: &[String]) {
        let urls = parse(urls);
        let mut state = self.state.lock();
        if state.urls != urls {
            *state = State { urls, picked: 0 };
        }
    }

    /// The URL in use, `None` if the member has none.
    pub(super) fn pick(&self) -> Option<Uri> {
        let state = self.state.lock();
        state.urls.get(state.picked).cloned()
    }

    /// Whether there is no other URL than the one in use.
    pub(super) fn is_single(&self) -> bool {
        self.state.lock().urls.len() == 1
    }

    /// Turns to the next URL, unless another task already has.
    pub(super) fn unreachable(&self, url: &Uri) {
        let mut state = self.state.lock();
        if state.urls.get(state.picked) == Some(url) {
            state.picked = (state.picked + 1) % state.urls.len();
        }
    }
}

fn parse(urls: &[String]) -> Vec<Uri> {
    urls.iter()
        .filter_map(|text| match text.parse::<Uri>() {
            Ok(url) if url.scheme().is_some() && url.authority().is_some() => Some(url),
            _ => {
                tracing::warn!(url = %text, "ignored a peer URL that is not valid");
                None
            }
        })
        .collect()
}
