//! Reasons of conditions: one closed set for each type.

/// Declares a set of reasons; each is written as it is named here.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$why:meta])* $variant:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$why])* $variant,)+
        }

        impl $name {
            /// The reason as it stands in the condition.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => stringify!($variant),)+
                }
            }
        }
    };
}

reasons! {
    /// Of Ready. While the cluster is stalled, the reason is that of Stalled.
    ReadyReason {
        /// Every member wanted is there and serves.
        AsSpecified,
        /// Replicas is 0, and the pods have stopped.
        Asleep,
        /// It has not formed yet.
        Creating,
        /// No quorum answers.
        NoQuorum,
        /// All is done, but pods are not ready to the kubelet.
        PodsNotReady,
        /// An image cannot be pulled.
        ImageUnavailable,
        /// A pod fits no node.
        Unschedulable,
        /// The operator is at work, or waits for something.
        Reconciling,
    }
}

reasons! {
    /// Of Reconciling. While a step is due, the reason is the step's name.
    ReconcilingReason {
        /// There is nothing to do.
        Settled,
        /// It cannot go on without a human.
        Stalled,
        /// The last attempt at a step failed.
        StepFailed,
        /// The world has to catch up first.
        Waiting,
        /// An image cannot be pulled.
        ImageUnavailable,
        /// A pod fits no node.
        Unschedulable,
    }
}

reasons! {
    /// Of Stalled, while it is not.
    NotStalledReason {
        /// It is not stalled.
        NotStalled,
    }
}

reasons! {
    /// Of Available.
    AvailableReason {
        /// A quorum answers.
        Quorum,
        /// None does.
        NoQuorum,
        /// Replicas is 0.
        Asleep,
        /// It has not formed yet.
        Creating,
    }
}

reasons! {
    /// Of Degraded.
    DegradedReason {
        /// Voters do not serve.
        MembersNotServing,
        /// A voter does not run because its image cannot be pulled.
        ImageUnavailable,
        /// A voter does not run because its pod fits no node.
        Unschedulable,
        /// Members do not hold the same data: the alarm CORRUPT stands.
        Corrupt,
        /// Every voter serves.
        Whole,
        /// Nothing serves at all; see Available.
        NotServing,
    }
}

reasons! {
    /// Of QuorumLost.
    QuorumLostReason {
        /// More voters lost their data than a quorum survives.
        VotersLost,
        /// That is not so.
        NotLost,
    }
}

reasons! {
    /// Of BackedUp.
    BackedUpReason {
        /// The newest proven backup is as recent as the schedules want it.
        Recent,
        /// It is older.
        TooOld,
        /// There is none of the cluster as it is now.
        NoBackup,
        /// No schedule takes any, or all are suspended.
        NoSchedule,
    }
}

reasons! {
    /// Of UpdatePending.
    UpdatePendingReason {
        /// This operator renders pods differently, and no window is set.
        OperatorChanged,
        /// The same, and it waits for a window.
        WaitsForWindow,
        /// The same, and it is being done in a window.
        InWindow,
        /// Pods are as this operator renders them.
        UpToDate,
    }
}

reasons! {
    /// Of SpaceLow.
    SpaceLowReason {
        /// The alarm NOSPACE stands: writes are refused.
        NoSpace,
        /// The store of a member has reached 80 % of its quota.
        NearQuota,
        /// There is room.
        Plenty,
    }
}

reasons! {
    /// Of Resizing.
    ResizingReason {
        /// Volumes are being grown.
        Growing,
        /// Kubernetes refused; the message names the class.
        Refused,
        /// Volumes are as large as the spec says.
        AsSpecified,
        /// Members keep their data on no volumes.
        NoVolumes,
    }
}

reasons! {
    /// Of MaintenanceWindow.
    MaintenanceWindowReason {
        /// A window is open.
        Open,
        /// None is.
        Closed,
        /// A window can never open; the message says which and why.
        InvalidWindow,
        /// The spec has none.
        NoWindows,
    }
}

reasons! {
    /// Of Paused.
    PausedReason {
        /// `spec.paused` is set.
        SpecPaused,
        /// It is not.
        NotPaused,
    }
}
