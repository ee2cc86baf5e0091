//! A filter's settings where routes have their own (`per_filter_config`).
//!
//! **Invariant:** settled when the snapshot is built; a request pays one look into a table, and none where no route has its own.

use crate::config::schema::{FilterConfig, FilterSettings, RouterConfig};
use crate::router::Route;

/// The listener's settings of a filter, and those of the routes that have their own.
#[derive(Debug)]
pub(super) struct PerRoute<T> {
    listener: T,
    own: Vec<T>,
    /// For each route of the router, one more than the place of its settings in `own`; 0 for the listener's. Empty when `own` is.
    by_route: Box<[u32]>,
}

impl<T> PerRoute<T> {
    /// Settings for all routes of `router`. `make` makes them ready; it is told whose they are, in words that stay the same as long as
    /// the file does.
    ///
    /// A route's own settings take the place of its virtual host's, and those of the listener's, as a whole.
    pub(super) fn new<C: FilterSettings>(
        listener: &C,
        router: &RouterConfig,
        mut make: impl FnMut(&C, &str) -> T,
    ) -> Self {
        fn find<C: FilterSettings>(configs: &[FilterConfig]) -> Option<&C> {
            configs.iter().find_map(C::of)
        }
        let listener = make(listener, "");
        let (mut own, mut by_route) = (Vec::new(), Vec::new());
        let mut place = |made: T| {
            own.push(made);
            u32::try_from(own.len()).expect("fewer routes than 2^32")
        };
        for host in &router.virtual_hosts {
            let of_host = find(&host.filters).map_or(0, |c| place(make(c, &host.name)));
            for (n, route) in host.routes.iter().enumerate() {
                let name = || format!("{}/{}/{n}", host.name, route.name);
                by_route.push(find(&route.filters).map_or(of_host, |c| place(make(c, &name()))));
            }
        }
        if own.is_empty() {
            by_route.clear();
        }
        Self { listener, own, by_route: by_route.into() }
    }

    /// Whether routes have their own: then nothing can be decided before the route is known.
    pub(super) fn is_by_route(&self) -> bool {
        !self.own.is_empty()
    }

    /// The settings for this route, or the listener's while none is known.
    pub(super) fn of(&self, route: Option<Route<'_>>) -> &T {
        let place = route.and_then(|route| self.by_route.get(route.id().0 as usize));
        match place {
            Some(&n) if n > 0 => &self.own[n as usize - 1],
            _ => &self.listener,
        }
    }
}
