//! What a world is like: how many members, and how often what goes wrong.

/// A kind of world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Nothing but a slightly lossy network.
    Calm,
    /// Processes are killed and the power goes out.
    Crash,
    /// Links are cut, both ways and one way.
    Partition,
    /// Disks fail, fill up and stall.
    Disk,
    /// Members come and go.
    Members,
    /// All of it.
    Mixed,
    /// All of it on five members.
    Five,
    /// One member that crashes.
    Solo,
    /// Leaders fall one after the other.
    Elections,
}

impl Profile {
    /// All of them, in the order in which seeds take turns.
    pub const ALL: [Profile; 9] = [
        Profile::Mixed,
        Profile::Crash,
        Profile::Partition,
        Profile::Disk,
        Profile::Members,
        Profile::Five,
        Profile::Calm,
        Profile::Solo,
        Profile::Elections,
    ];

    /// The profile whose turn it is with this seed.
    pub fn of(seed: u64) -> Profile {
        Profile::ALL[(seed % Profile::ALL.len() as u64) as usize]
    }

    pub(crate) fn settings(self) -> Settings {
        let calm = Settings {
            members: 3,
            drop: 2,
            duplicate: 5,
            kill: 0,
            power: 0,
            partition: 0,
            disk: 0,
            stall: 5,
            slow: 10,
            kill_voters: 0,
            compactions: 20,
            admin: false,
            pause_ms: (400, 3000),
            restart_ms: (50, 4000),
            segment_bytes: 16 << 10,
        };
        match self {
            Profile::Calm => calm,
            Profile::Crash => Settings {
                kill: 40,
                power: 60,
                ..calm
            },
            Profile::Partition => Settings {
                drop: 20,
                duplicate: 20,
                partition: 90,
                kill: 10,
                ..calm
            },
            Profile::Disk => Settings {
                disk: 60,
                power: 30,
                stall: 20,
                ..calm
            },
            Profile::Members => Settings {
                admin: true,
                kill: 15,
                power: 15,
                partition: 30,
                pause_ms: (1000, 5000),
                ..calm
            },
            Profile::Mixed => Settings {
                drop: 10,
                duplicate: 20,
                kill: 20,
                power: 30,
                partition: 40,
                disk: 20,
                stall: 10,
                admin: true,
                ..calm
            },
            Profile::Five => Settings {
                members: 5,
                ..Profile::Mixed.settings()
            },
            Profile::Solo => Settings {
                members: 1,
                kill: 30,
                power: 60,
                disk: 20,
                ..calm
            },
            Profile::Elections => Settings {
                drop: 60,
                slow: 200,
                kill_voters: 200,
                kill: 60,
                power: 20,
                partition: 50,
                pause_ms: (50, 800),
                restart_ms: (1, 150),
                ..calm
            },
        }
    }
}

/// How a world is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) members: u64,
    /// Messages lost, per thousand.
    pub(crate) drop: u64,
    /// Messages delivered twice, per thousand.
    pub(crate) duplicate: u64,
    /// Weights of what goes wrong.
    pub(crate) kill: u64,
    pub(crate) power: u64,
    pub(crate) partition: u64,
    pub(crate) disk: u64,
    pub(crate) stall: u64,
    /// Members killed right after they voted, per thousand.
    pub(crate) kill_voters: u64,
    /// Messages that take long, per thousand.
    pub(crate) slow: u64,
    /// Compactions among the requests of clients, per thousand.
    pub(crate) compactions: u64,
    /// Whether members come and go.
    pub(crate) admin: bool,
    /// Time between two things that go wrong, in milliseconds.
    pub(crate) pause_ms: (u64, u64),
    /// Time after which a process that ended is started again, in milliseconds.
    pub(crate) restart_ms: (u64, u64),
    /// Bytes of a file of the log: small, so that files are begun and given up often.
    pub(crate) segment_bytes: u64,
}
