// Reads an embedded store through the extension clickhouse_query, as Grafana's ClickHouse data source does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

func main() {
	method := map[string]clickhouse.CompressionMethod{
		"none": clickhouse.CompressionNone, "gzip": clickhouse.CompressionGZIP,
	}[os.Args[2]]
	db := clickhouse.OpenDB(&clickhouse.Options{
		Addr: []string{os.Args[1]}, Protocol: clickhouse.HTTP,
		Auth:        clickhouse.Auth{Database: "colonnade", Username: "default"},
		Settings:    clickhouse.Settings{"max_execution_time": 30},
		Compression: &clickhouse.Compression{Method: method},
	})
	if err := db.Ping(); err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	rows, err := db.QueryContext(ctx, "SELECT service_name, timestamp, duration_ms, labels FROM events WHERE ns != ?", "none")
	if err != nil {
		log.Fatal(err)
	}
	found, nulls := 0, 0
	for rows.Next() {
		var service string
		var at time.Time
		var duration *float64
		var labels map[string]string
		if err := rows.Scan(&service, &at, &duration, &labels); err != nil {
			log.Fatal(err)
		}
		found++
		if duration == nil {
			nulls++
		}
	}
	if rows.Err() != nil {
		log.Fatal(rows.Err())
	}
	_, err = db.QueryContext(ctx, "SELECT * FROM nowhere")
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
		log.Fatal("no exception: ", err)
	}
	answer := map[string]int{"rows": found, "nulls": nulls, "code": int(exception.Code)}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		log.Fatal(err)
	}
}
