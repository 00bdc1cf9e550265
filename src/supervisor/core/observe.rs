//! The only mutator of [`Observed`]: it follows events.

use super::action::Notice;
use super::event::Event;
use super::model::Observed;
use super::time::Time;

/// Takes `event` into account. What people should know of it is added to `notices` (whose `workload_name` is left
/// empty); a replay throws these away. An event of an instance that is not known is ignored.
pub fn on_event(observed: &mut Observed, event: &Event, at: Time, notices: &mut Vec<Notice>) {
    let _ = (observed, event, at, notices);
    todo!()
}
