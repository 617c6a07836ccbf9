package server

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
)

// storeFile is the store's file in its folder, a bbolt database.
const storeFile = "sluice-controlplane.db"

var (
	componentsBucket = []byte("components") // id to flowctl.v1's ComponentInfo
	settingsBucket   = []byte("settings")   // key of a pipeline to Settings of our own service
)

// settingsKey is the key of a pipeline's settings: bbolt takes no empty one.
func settingsKey(pipeline string) []byte { return []byte("settings:" + pipeline) }

// A store remembers over a restart what nothing else brings back: registrations
// of stock components, which register once and never again, and the settings that
// an operator has changed. Agents register by themselves, and are not stored. A
// nil store remembers nothing.
//
// Each change is durable when the call returns, and takes as long as the disk. What
// cannot be written is logged and not an error of the call: a full disk must not stop
// the pipeline. bbolt was chosen because it is what flowctl itself uses: one file,
// and no process beside it. Messages are stored as the wire has them.
type store struct{ db *bbolt.DB }

// openStore opens the store in folder, which is made if it is missing. One server
// at a time holds it.
func openStore(folder string) (*store, error) {
	if folder == "" {
		return nil, nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(folder, storeFile), 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, bucket := range [][]byte{componentsBucket, settingsBucket} {
			if _, err := tx.CreateBucketIfNotExists(bucket); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return &store{db}, nil
}

func (s *store) close() error {
	if s == nil {
		return nil
	}
	return s.db.Close()
}

func (s *store) put(bucket, key []byte, value proto.Message) error {
	if s == nil {
		return nil
	}
	content, err := proto.Marshal(value)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put(key, content) })
}

// remember keeps the registration of c.
func (s *store) remember(c *controlplane.Component, heartbeat time.Duration) error {
	return s.put(componentsBucket, []byte(c.ID), convert.ComponentToV1(c, heartbeat))
}

// forget is the reverse of remember.
func (s *store) forget(id string) error {
	if s == nil {
		return nil
	}
	known := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		known = tx.Bucket(componentsBucket).Get([]byte(id)) != nil
		return nil
	})
	if err != nil || !known { // most are agents: no write for those
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(componentsBucket).Delete([]byte(id)) })
}

// rememberSettings adds the fields that are set to those that are remembered of the
// pipeline.
func (s *store) rememberSettings(pipeline string, changed *sluicepb.Settings) error {
	if s == nil {
		return nil
	}
	all, err := s.settings(pipeline)
	if err != nil {
		return err
	}
	proto.Merge(all, changed)
	return s.put(settingsBucket, settingsKey(pipeline), all)
}

// settings are those that an operator has changed for the pipeline.
func (s *store) settings(pipeline string) (*sluicepb.Settings, error) {
	all := &sluicepb.Settings{}
	if s == nil {
		return all, nil
	}
	return all, s.db.View(func(tx *bbolt.Tx) error {
		return proto.Unmarshal(tx.Bucket(settingsBucket).Get(settingsKey(pipeline)), all)
	})
}

// components calls put for each registration, in order of the ids, and ends at the
// first error.
func (s *store) components(put func(c controlplane.Component, heartbeat time.Duration) error) error {
	if s == nil {
		return nil
	}
	return s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(componentsBucket).ForEach(func(id, content []byte) error {
			info := &flowctlv1pb.ComponentInfo{}
			if err := proto.Unmarshal(content, info); err != nil {
				return fmt.Errorf("component %q: %w", id, err)
			}
			return put(convert.ComponentFromV1(info))
		})
	})
}
