package flights

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/flight"
)

// ActionStatus is the action that returns a server's status as JSON.
const ActionStatus = "get_status"

// ListStatusAction is a ListActions of a server whose one action is get_status.
func ListStatusAction(stream flight.FlightService_ListActionsServer) error {
	return stream.Send(&flight.ActionType{Type: ActionStatus, Description: "what is offered and what was served, as JSON"})
}

// DoStatusAction is a DoAction of such a server: it sends what get returns.
func DoStatusAction[T any](action *flight.Action, stream flight.FlightService_DoActionServer,
	get func(context.Context) (T, error),
) error {
	if action.GetType() != ActionStatus {
		return Status(fmt.Errorf("%w: action %.100q, want %q", ErrBadRequest, action.GetType(), ActionStatus))
	}
	st, err := get(stream.Context())
	if err != nil {
		return Status(err)
	}
	body, err := json.Marshal(st)
	if err != nil {
		return Status(err)
	}
	return stream.Send(&flight.Result{Body: body})
}
