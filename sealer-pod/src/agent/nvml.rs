//! GPUs by NVIDIA's management library, which is looked for while the program runs: without it there are no GPUs.

use nvml_wrapper::{
    Device, Nvml,
    bitmasks::{device::ThrottleReasons, event::EventTypes},
    enum_wrappers::device::{EccCounter, MemoryError},
    enums::event::XidError,
    error::NvmlError,
    event::EventSet,
};

use super::gpu::{Reading, Source, Unasked};

/// Looks after which a missing library is looked for again: drivers are installed on running nodes.
const AGAIN: u32 = 30;

/// NVML, or the wish for it.
#[derive(Debug, Default)]
pub(crate) struct Library {
    open: Option<Open>,
    /// Why it is not open, and looks until the next try.
    closed: Option<(Unasked, u32)>,
}

/// The library and the set of its events. It lives as long as the process: NVML is initialised once.
struct Open {
    nvml: &'static Nvml,
    events: Option<EventSet<'static>>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

impl Source for Library {
    fn look(&mut self) -> Result<Vec<Reading>, Unasked> {
        if let Some((why, left)) = &mut self.closed
            && *left > 0
        {
            *left -= 1;
            return Err(why.clone());
        }
        if self.open.is_none() {
            match Open::new() {
                Ok(open) => self.open = Some(open),
                Err(why) => {
                    self.closed = Some((why.clone(), AGAIN));
                    return Err(why);
                }
            }
        }
        self.closed = None;
        let Some(open) = &mut self.open else {
            return Err(Unasked::Broken("not open".into()));
        };
        open.readings().map_err(|e| Unasked::Broken(e.to_string()))
    }
}

impl Open {
    fn new() -> Result<Self, Unasked> {
        let nvml = Nvml::init().map_err(|e| {
            let absent = matches!(
                e,
                NvmlError::LibloadingError(_)
                    | NvmlError::DriverNotLoaded
                    | NvmlError::LibraryNotFound
            );
            let why = first_line(&e);
            if absent {
                Unasked::NoDriver(why)
            } else {
                Unasked::Broken(why)
            }
        })?;
        let nvml: &'static Nvml = Box::leak(Box::new(nvml));
        Ok(Self {
            nvml,
            events: events(nvml),
        })
    }

    fn readings(&mut self) -> Result<Vec<Reading>, NvmlError> {
        let mut readings = Vec::new();
        for index in 0..self.nvml.device_count()? {
            match self.nvml.device_by_index(index).and_then(|d| reading(&d)) {
                Ok(reading) => readings.push(reading),
                // It cannot even say which one it is; the inventory of this boot knows who is missing.
                Err(error) => tracing::debug!(index, %error, "a GPU does not answer"),
            }
        }
        for (uuid, xid) in self.xids() {
            if let Some(reading) = readings.iter_mut().find(|r| r.uuid == uuid) {
                reading.xids.push(xid);
            }
        }
        Ok(readings)
    }

    /// Xid errors since the last look, with the GPU's UUID.
    fn xids(&mut self) -> Vec<(String, u64)> {
        /// A GPU that floods us is closed by its first errors.
        const MOST: usize = 64;
        let mut all = Vec::new();
        while let Some(Ok(event)) = self.events.as_ref().map(|set| set.wait(0)) {
            if let (Ok(uuid), Some(XidError::Value(xid))) = (event.device.uuid(), event.event_data)
            {
                all.push((uuid, xid));
            }
            if all.len() >= MOST {
                break;
            }
        }
        all
    }
}

/// Asks all GPUs to tell of Xid errors.
fn events(nvml: &'static Nvml) -> Option<EventSet<'static>> {
    let mut set = nvml.create_event_set().ok()?;
    for index in 0..nvml.device_count().ok()? {
        let Ok(device) = nvml.device_by_index(index) else {
            continue;
        };
        if !device
            .supported_event_types()
            .is_ok_and(|types| types.contains(EventTypes::CRITICAL_XID_ERROR))
        {
            continue;
        }
        match device.register_events(EventTypes::CRITICAL_XID_ERROR, set) {
            Ok(registered) => set = registered,
            Err(error) => {
                tracing::warn!(%error, "no Xid errors will be seen");
                return None;
            }
        }
    }
    Some(set)
}

fn reading(device: &Device<'_>) -> Result<Reading, NvmlError> {
    let lost = |e: &NvmlError| matches!(e, NvmlError::GpuLost | NvmlError::ResetRequired);
    let memory = device.memory_info();
    let throttle = device.current_throttle_reasons();
    let pci = device.pci_info()?;
    Ok(Reading {
        uuid: device.uuid()?,
        model: device.name().unwrap_or_default(),
        lost: memory.as_ref().err().is_some_and(lost) || throttle.as_ref().err().is_some_and(lost),
        memory: memory.map_or(0, |m| m.total),
        pci: address(&pci.bus_id),
        ecc_uncorrected: device
            .total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile)
            .ok(),
        repair_pending: device.are_pages_pending_retired().unwrap_or(false),
        throttled: throttle.map_or_else(|_| Vec::new(), held_back),
        xids: Vec::new(),
    })
}

/// What counts as throttling: heat and power brakes, not the power limit that somebody set.
fn held_back(reasons: ThrottleReasons) -> Vec<String> {
    let bad = ThrottleReasons::HW_SLOWDOWN
        | ThrottleReasons::SW_THERMAL_SLOWDOWN
        | ThrottleReasons::HW_THERMAL_SLOWDOWN
        | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN;
    let names = (reasons & bad).iter_names();
    names.map(|(name, _)| name.to_owned()).collect()
}

/// NVML writes domains with eight digits, the kernel with four: `00000000:41:00.0` is `0000:41:00.0`.
fn address(bus_id: &str) -> String {
    let lower = bus_id.to_lowercase();
    match lower.split_once(':') {
        Some((domain, rest)) if domain.len() == 8 && domain.starts_with("0000") => {
            format!("{}:{rest}", &domain[4..])
        }
        _ => lower,
    }
}

fn first_line(error: &NvmlError) -> String {
    let text = error.to_string();
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(160)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_kernel() {
        assert_eq!(address("00000000:41:00.0"), "0000:41:00.0");
        assert_eq!(address("0000000A:C1:00.0"), "000a:c1:00.0");
        assert_eq!(address("00010000:01:00.0"), "00010000:01:00.0");
    }

    #[test]
    fn a_power_limit_is_no_throttling_and_heat_is() {
        assert!(held_back(ThrottleReasons::SW_POWER_CAP | ThrottleReasons::GPU_IDLE).is_empty());
        assert_eq!(
            held_back(ThrottleReasons::HW_THERMAL_SLOWDOWN),
            ["HW_THERMAL_SLOWDOWN"]
        );
    }

    #[test]
    fn without_a_driver_there_are_no_gpus_and_a_reason() {
        let mut library = Library::default();
        match library.look() {
            // A machine with a driver: what it says is readable.
            Ok(readings) => assert!(readings.iter().all(|r| !r.uuid.is_empty())),
            Err(why) => {
                assert!(why.to_string().starts_with("NVML"), "{why}");
                assert_eq!(
                    library.look().unwrap_err(),
                    why,
                    "and it is not looked for at every look"
                );
            }
        }
    }
}
